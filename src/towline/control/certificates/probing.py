"""Makes this installation answer a probe as it answers a challenge, so that a look from here tells what others see."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable

from towline.aio.clock import Clock
from towline.control.certificates import repository
from towline.control.certificates.answers import ChallengeAnswers
from towline.control.certificates.keeping import TOPIC, Keeper
from towline.control.certificates.states import ChallengeKind

PROBE_LIFE = 60.0
REPLICA_GRACE = 0.5
"""Seconds that other replicas get to hear of a TLS-ALPN probe."""


class Prober:
    """Implements `checks.OpenProbe` by rows, as challenges are: any replica may be the one that is reached."""

    def __init__(self, keeper: Keeper, answers: ChallengeAnswers, *, has_replicas: bool, clock: Clock) -> None:
        self._keeper = keeper
        self._answers = answers
        self._has_replicas = has_replicas
        self._clock = clock

    async def open(self, kind: ChallengeKind, name: str, token: str) -> Callable[[], Awaitable[None]]:
        """Answer `token` at `name` with the token itself; returns what ends it."""
        owner = "probe/" + hashlib.sha256(token.encode()).hexdigest()[:32]
        row = await self._keeper.add_challenge(owner, kind, name, token, token, PROBE_LIFE)
        self._answers.add(row)
        if kind is ChallengeKind.TLS_ALPN and self._has_replicas:
            await self._clock.sleep(REPLICA_GRACE)

        async def end() -> None:
            async with self._keeper.db.begin() as tx:
                await repository.end_challenges(tx, owner)
                tx.publish(TOPIC)
            self._answers.drop(row)

        return end
