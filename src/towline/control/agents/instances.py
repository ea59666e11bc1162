"""Decide whether one of several declared instances of an agent may have its link. Pure.

Replicas of an agent share one key, so each has a row, a generation and takeovers of its own: a copy of one pod's state
is found out as a copied state folder is. Whoever holds the key may come as a new instance while there is room, and no
further; only the instance is put aside, never its siblings. A pod that is deleted takes its quarantine with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towline.control.agents import admission, clones, refusals
from towline.control.agents.admission import Attempt, Decision, Deny, Turn
from towline.control.agents.models import Agent, AgentInstance, AgentKey
from towline.wire import link


def decide(
    row: Agent,
    known_keys: Sequence[AgentKey],
    attempt: Attempt,
    turn: Turn,
    known: AgentInstance | None,
    live: Mapping[str, str],
) -> Decision:
    """Decide on one attempt.

    Args: known: the instance's row, None at its first connect. live: name of each instance of this agent whose link
        is up now, and the process that holds it.
    """
    hello = attempt.hello
    key = admission.proven(known_keys, attempt, turn)
    if isinstance(key, Deny):
        return key
    if known is not None and known.suspect_reason:
        return Deny(refusals.suspect_instance(known.suspect_reason))
    generations = clones.Generations(known.generation, known.acked_generation) if known else clones.Generations(0, 0)
    verdict = clones.judge_generation(generations, hello.generation)
    if isinstance(verdict, clones.Stale):
        return _quarantine(row, attempt, turn, verdict.reason)
    if (refusal := admission.refusal_by_state(row.state, row.state_reason)) is not None:
        return Deny(refusal)
    if not admission.PROTOCOLS & set(hello.protocols):
        return Deny(refusals.PROTOCOL)
    name = link.installation(hello.instance_id)
    others = [one for one in live if one != name]
    if len(others) >= row.max_instances:
        return Deny(refusals.crowded(row.max_instances), values={"rivals": admission.rivals(row, attempt, turn)})
    takeovers = admission.takeovers_with(known.takeovers if known else (), hello.instance_id, live.get(name, ""), turn)
    if clones.is_duel(takeovers, turn.seconds):
        return _quarantine(row, attempt, turn, refusals.DUEL)
    admitted = admission.admit(row, known_keys, key, attempt, turn, {}, ahead=verdict.ahead)
    admitted.instance.update(
        _seen(attempt, turn),
        generation=verdict.issue,
        acked_generation=max(hello.generation, known.acked_generation if known else 0),
        takeovers=[[one.at, one.instance_id] for one in takeovers],
    )
    return admitted


def _seen(attempt: Attempt, turn: Turn) -> dict[str, Any]:
    hello = attempt.hello
    return {
        "instance_id": hello.instance_id[:64],
        "version": hello.version[:64],
        "address": attempt.address,
        "last_seen_at": turn.now,
    }


def _quarantine(row: Agent, attempt: Attempt, turn: Turn, reason: str) -> Deny:
    """Put one instance aside; an agent that was revoked or removed is told that."""
    final = admission.refusal_by_state(row.state, row.state_reason)
    if final is not None and final.final:
        return Deny(final)
    return Deny(
        refusals.suspect_instance(reason),
        quarantine=True,
        values={"rivals": admission.rivals(row, attempt, turn)},
        instance=_seen(attempt, turn) | {"suspect_reason": reason[:500]},
    )
