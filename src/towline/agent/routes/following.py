"""Following one kind of objects with whatever rights there are: everywhere, else in the namespaces that are named."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.credentials import SERVICE_ACCOUNT, own_namespace
from towline.agent.kubernetes.table import Feed
from towline.agent.kubernetes.watches import Source, State, Watcher, may_read
from towline.agent.policy import fits
from towline.agent.routes.shelf import Shelf
from towline.aio.clock import REAL_CLOCK, Clock
from towline.aio.tasks import TaskOwner

DENIED_INTERVAL = 60.0
"""Seconds, and up to half as much more, before a kind that was denied, or that is not there, is asked for again."""
MOST_NAMESPACES = 20
"""Namespaces that are read one by one: each costs one connection for every kind."""

PATIENCE = 120.0
"""Seconds that refusals count for nothing after something was read: addresses that answer are not given up for less."""

TurnedOne = Callable[[State, str], None]
Turned = Callable[[str, State, str], None]
"""Called with the kind, its state and why: FOLLOWING once every namespace was read, DENIED when nothing may be."""


class _Sink(Feed[Any]):
    """A feed whose denials are for the follower to tell, who knows what they mean."""

    def __init__(self, shelf: Shelf[Any], turned: TurnedOne) -> None:
        super().__init__(shelf, turned)
        self._tell = turned

    def turned(self, state: State, reason: str) -> None:
        if state is not State.DENIED:
            self._tell(state, reason)


class _Namespaces:
    """Several namespaces as one: read once all of them were looked at, and denied when none of them may be read."""

    def __init__(self, names: tuple[str, ...], turned: TurnedOne) -> None:
        self._tell = turned
        self._unread = set(names)
        self._readable: set[str] = set()

    def turned(self, name: str, state: State, reason: str) -> None:
        if state is State.FOLLOWING:
            self._readable.add(name)
        elif state is State.DENIED:
            self._readable.discard(name)
        else:
            return
        self._unread.discard(name)
        if not self._unread:
            self._tell(State.FOLLOWING if self._readable else State.DENIED, reason)


class Follower:
    """Fills shelves. Args: patterns: of the namespaces that the host's policy lets be published."""

    def __init__(
        self,
        api: Api,
        patterns: tuple[str, ...],
        turned: Turned,
        *,
        service_account: Path = SERVICE_ACCOUNT,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._api = api
        self._patterns = patterns
        self._turned = turned
        self._service_account = service_account
        self._clock = clock
        self._draw = draw

    async def follow(self, source: Source[Any], shelf: Shelf[Any], *, is_cluster_wide: bool = False) -> None:
        """Follow one kind for ever. Args: is_cluster_wide: its objects are in no namespace."""
        while True:
            names = () if is_cluster_wide else self._named()
            sink = _Sink(shelf, partial(self._turned, source.kind))
            why = await self._watch(source, sink)
            if not names:
                self._turned(source.kind, State.DENIED, why)
            sink.clear()
            if names:
                await self._follow_named(source, shelf, names)
            else:
                await self._clock.sleep(self._pause())

    async def _watch(self, source: Source[Any], sink: _Sink) -> str:
        """Watch until it is denied for good. Returns: why."""
        return await Watcher(self._api, source, sink, clock=self._clock, draw=self._draw, patience=PATIENCE).run()

    async def _follow_named(self, source: Source[Any], shelf: Shelf[Any], names: tuple[str, ...]) -> None:
        """Follow one kind in some namespaces, until all of them may be read at once."""
        told = _Namespaces(names, partial(self._turned, source.kind))
        async with TaskOwner(f"routes-{source.kind}") as owner:
            for name in names:
                one = replace(source, namespace=name)
                owner.spawn(name, self._follow_one(one, shelf, partial(told.turned, name)))
            while not await may_read(self._api, source):
                await self._clock.sleep(self._pause())
        shelf.clear()

    async def _follow_one(self, source: Source[Any], shelf: Shelf[Any], turned: TurnedOne) -> None:
        while True:
            sink = _Sink(shelf, turned)
            turned(State.DENIED, await self._watch(source, sink))
            sink.clear()
            await self._clock.sleep(self._pause())

    def _named(self) -> tuple[str, ...]:
        """Return the namespaces to read one by one: those of the policy, else the agent's own."""
        if not any(letter in pattern for pattern in self._patterns for letter in "*?["):
            return tuple(dict.fromkeys(self._patterns))[:MOST_NAMESPACES]
        own = own_namespace(self._service_account)
        return (own,) if own and fits(own, self._patterns) else ()

    def _pause(self) -> float:
        return DENIED_INTERVAL * (1 + self._draw() / 2)
