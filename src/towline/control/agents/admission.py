"""Decide whether an agent may have its link, from its row, its keys and what it says. Pure.

The order is fixed: the key and the signature prove who speaks; then the generation, before any other refusal, so
that a copied identity is noticed whatever state the agent is in; then the state; then the duel of two instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from towline.control.agents import clones, keys, refusals
from towline.control.agents.models import Agent, AgentKey
from towline.control.agents.refusals import Refusal
from towline.control.agents.states import AgentState
from towline.wire import link

PROTOCOLS = frozenset({1})
"""Versions of the link that this release speaks."""
OLD_KEY_LIFETIME = timedelta(hours=24)
"""How long the replaced key still works after the first use of its successor."""
MOST_RIVALS = 10
"""Attempts that a suspect agent's row keeps for the administrator to look at."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A hello, the challenge that it answers, and where it came from."""

    hello: link.Hello
    origin: str
    nonce: str
    address: str


@dataclass(frozen=True, slots=True)
class Turn:
    """The moment of a decision: by the database's clock, and in seconds for the window of takeovers."""

    now: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Admit:
    """Let it in: `values` are written with the claim."""

    values: dict[str, Any]
    ahead: bool = False
    first_use: bool = False
    retire: tuple[tuple[str, datetime], ...] = ()
    """Keys that end, and when."""
    instance: dict[str, Any] = field(default_factory=dict)
    """What is written of the instance, for an agent that may run several."""


@dataclass(frozen=True, slots=True)
class Deny:
    """Turn it away; with `quarantine`, put the agent (or its one `instance`) aside and write `values`."""

    refusal: Refusal
    quarantine: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    instance: dict[str, Any] = field(default_factory=dict)


Decision = Admit | Deny


def decide(row: Agent, known_keys: Sequence[AgentKey], attempt: Attempt, turn: Turn, live_instance: str) -> Decision:
    """Decide on one attempt of an agent that runs one instance.

    Args: live_instance: the instance of this agent whose link is up now; empty when there is none.
    """
    hello = attempt.hello
    key = proven(known_keys, attempt, turn)
    if isinstance(key, Deny):
        return key
    known = clones.Generations(row.generation, row.acked_generation, row.resync)
    verdict = clones.judge_generation(known, hello.generation)
    if isinstance(verdict, clones.Stale):
        return _quarantine(row, attempt, turn, verdict.reason)
    if (refusal := refusal_by_state(row.state, row.state_reason)) is not None:
        return Deny(refusal)
    if not PROTOCOLS & set(hello.protocols):
        return Deny(refusals.PROTOCOL)
    takeovers = takeovers_with(row.takeovers, hello.instance_id, live_instance, turn)
    if clones.is_duel(takeovers, turn.seconds):
        return _quarantine(row, attempt, turn, refusals.DUEL)
    values: dict[str, Any] = {
        "generation": verdict.issue,
        "acked_generation": row.acked_generation if row.resync else max(hello.generation, row.acked_generation),
        "takeovers": [[one.at, one.instance_id] for one in takeovers],
    }
    return admit(row, known_keys, key, attempt, turn, values, ahead=verdict.ahead)


def proven(known_keys: Sequence[AgentKey], attempt: Attempt, turn: Turn) -> AgentKey | Deny:
    """Return the key that signed an attempt, or why it proves nothing."""
    hello = attempt.hello
    key = next((one for one in known_keys if one.id == hello.key_id), None)
    if key is None:
        return Deny(refusals.UNKNOWN_KEY)
    if not keys.verify(key.public_key, hello.signature, signed_text(attempt)):
        return Deny(refusals.BAD_SIGNATURE)
    if key.expires_at is not None and key.expires_at <= turn.now:
        return Deny(refusals.EXPIRED_KEY)
    return key


def signed_text(attempt: Attempt) -> bytes:
    """Return what the agent must have signed; a field that holds a newline yields what no signature fits."""
    hello = attempt.hello
    try:
        return link.connect_text(
            origin=attempt.origin,
            nonce=attempt.nonce,
            agent_id=hello.agent_id,
            key_id=hello.key_id,
            instance_id=hello.instance_id,
            generation=hello.generation,
        )
    except link.BadMessage:
        return b""


def refusal_by_state(state: str, reason: str) -> Refusal | None:
    """Return what an agent in a state that may not connect is told."""
    match state:
        case AgentState.REVOKED:
            return refusals.REVOKED
        case AgentState.REMOVED:
            return refusals.REMOVED
        case AgentState.SUSPECT:
            return refusals.suspect(reason)
    return None


def admit(
    row: Agent,
    known_keys: Sequence[AgentKey],
    key: AgentKey,
    attempt: Attempt,
    turn: Turn,
    values: dict[str, Any],
    *,
    ahead: bool = False,
) -> Admit:
    """Let an agent in, and note who and whence; `values` are written too."""
    hello = attempt.hello
    newest = max(known_keys, key=lambda one: (one.created_at, one.id))
    retire = tuple(
        (one.id, turn.now + OLD_KEY_LIFETIME) for one in known_keys if one is not newest and one.expires_at is None
    )
    values = values | {
        "instance_id": hello.instance_id[:64],
        "version": hello.version[:64],
        "address": attempt.address,
        "last_seen_at": turn.now,
    }
    if key is newest:
        values["rotate_requested_at"] = (
            None if row.rotate_requested_at and _is_new(key, row) else row.rotate_requested_at
        )
    return Admit(values, ahead=ahead, first_use=key.used_at is None, retire=retire if key is newest else ())


def _is_new(key: AgentKey, row: Agent) -> bool:
    return row.rotate_requested_at is not None and key.created_at >= row.rotate_requested_at


def takeovers_with(stored: Sequence[Any], instance_id: str, live_instance: str, turn: Turn) -> list[clones.Takeover]:
    """Return the recent takeovers, this one among them when another live instance has to go for it."""
    kept = [clones.Takeover(float(at), str(one)) for at, one in stored]
    if live_instance and live_instance != instance_id:
        kept.append(clones.Takeover(turn.seconds, instance_id))
    return list(clones.recent(kept, turn.seconds))


def _quarantine(row: Agent, attempt: Attempt, turn: Turn, reason: str) -> Deny:
    """Put an agent aside; one that was revoked or removed stays so, and is told that."""
    final = refusal_by_state(row.state, row.state_reason)
    if final is not None and final.final:
        return Deny(final)
    values = {"state": AgentState.SUSPECT, "state_reason": reason, "rivals": rivals(row, attempt, turn)}
    return Deny(refusals.suspect(reason), quarantine=True, values=values)


def rivals(row: Agent, attempt: Attempt, turn: Turn) -> list[dict[str, Any]]:
    """Return the attempts that an administrator is shown, with this one."""
    seen = {
        "instance_id": attempt.hello.instance_id[:64],
        "generation": attempt.hello.generation,
        "address": attempt.address,
        "seen_at": turn.now.isoformat(),
    }
    own = {
        "instance_id": row.instance_id,
        "generation": row.generation,
        "address": row.address,
        "seen_at": row.last_seen_at.isoformat() if row.last_seen_at else "",
    }
    return [*([own] if not row.rivals else row.rivals), seen][-MOST_RIVALS:]
