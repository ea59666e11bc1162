"""Keeping up with one kind of objects: a paged LIST, then watches that go on where the last one ended.

States of a watcher, each told to its sink:

    LISTING    reading everything, page by page; then FOLLOWING
    FOLLOWING  a watch is open; every change arrives, bookmarks move the version on
    AWAY       the API server does not answer; tried again with back-off, from the last version
    DENIED     it answers that this may not be read, or that there is no such kind; `run` returns

What was read once is not denied by a first refusal: an API server that has just started answers some before it knows
its own rules. Until they have lasted for a while the watcher is AWAY, and what was read stays.

A version that is too old (410, as a status or as an event) means LISTING again, after a random pause, because every
watcher of a cluster meets the same 410 at the same time. Source: Kubernetes API concepts, "Efficient detection of
changes"; nothing here knows what the objects mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

import msgspec

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.api import Answer, Api, ApiAway, ApiRefused, Connection, TooLarge
from towline.aio.backoff import Backoff
from towline.aio.clock import REAL_CLOCK, Clock
from towline.kube.errors import BadWatch
from towline.kube.objects import List
from towline.kube.watching import Bookmark, Change, Failure, WatchReader

PAGE_OBJECTS = 500
"""Objects of one page, as kubectl asks for: a few megabytes that are decoded in some milliseconds."""
LARGEST_PAGE_BYTES = 16 * 1024 * 1024
"""A page of 500 usual pods has 4 MiB. A larger one is asked for again with fewer objects."""
WATCH_SECONDS = (240, 480)
"""How long one watch lasts, drawn at random, so that watches do not begin anew all at once."""
WATCH_GRACE = 30.0
"""Seconds after which a watch that should have ended is given up: an API server that froze, or a proxy that did, keeps
connections open for ever."""
RELIST_JITTER = 2.0
"""Seconds at most before everything is listed again after a 410."""
LONGEST_PAUSE = 3.0
"""Seconds between two attempts to reach an API server that is away: ten seconds after its return everything is known
again, though what comes first may be a 410, its pause, and a list of 10,000 pods."""
DENIAL_PATIENCE = 30.0
"""Seconds that refusals count for nothing after something was read: an API server with many objects needs as long to
read its rules when it starts."""
LONGEST_ASKED_PAUSE = 120.0
"""Seconds that an API server may ask us to stay away by Retry-After."""
SHORT_WATCH = 5.0
"""Seconds: a watch that ends sooner, by itself, is something else than the API server's usual end."""

_DENIALS = frozenset({403, 404, 405})
_EXPIRED = 410

T = TypeVar("T")
Seen = TypeVar("Seen", contravariant=True)


class State(StrEnum):
    LISTING = "listing"
    FOLLOWING = "following"
    AWAY = "away"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Source(Generic[T]):
    """What to read: one kind of objects, in one namespace or in all."""

    kind: str
    """The plural in the path, e.g. `pods`."""
    group: str
    """The beginning of the path, e.g. `/apis/apps/v1`."""
    type: type[T]
    namespace: str = ""
    fields: str = ""
    """A field selector."""

    def target(self, **parameters: str | int) -> str:
        """Return the request target with these query parameters."""
        where = f"/namespaces/{quote(self.namespace, safe='')}" if self.namespace else ""
        asked = {**({"fieldSelector": self.fields} if self.fields else {}), **parameters}
        query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in asked.items())
        return f"{self.group}{where}/{self.kind}?{query}"


class Sink(Protocol[Seen]):
    """Where the objects of one watcher go. None of this may wait."""

    def begin(self) -> None:
        """A list begins: what is not put before `finish` is there no more."""

    def put(self, found: Seen) -> None:
        """An object is there, as it is now."""

    def remove(self, found: Seen) -> None:
        """An object is gone; `found` is its last state."""

    def finish(self) -> None:
        """The list is whole."""

    def turned(self, state: State, reason: str) -> None:
        """The watcher is in another state; `reason` says why it is away or denied."""


async def may_read(api: Api, source: Source[Any]) -> bool:
    """Ask for one object: tell whether a kind may be read now. False as well when nobody answers."""
    with contextlib.suppress(KubernetesError):
        async with api.connection() as connection:
            await connection.ask(source.target(limit=1))
            return True
    return False


class _Expired(Exception):
    """The version is too old to go on from."""


class Watcher(Generic[T]):
    """Follows one source for as long as it may be read."""

    def __init__(
        self,
        api: Api,
        source: Source[T],
        sink: Sink[T],
        *,
        clock: Clock = REAL_CLOCK,
        draw: Callable[[], float] = random.random,
        patience: float = DENIAL_PATIENCE,
    ) -> None:
        self._api = api
        self._source = source
        self._sink = sink
        self._clock = clock
        self._patience = patience
        self._refused_since: float | None = None
        self._expiries = 0
        """Versions that were too old, one after the other, with no watch of some length in between."""
        self._draw = draw
        self._backoff = Backoff(longest=LONGEST_PAUSE, clock=clock, draw=draw)
        pages: Any = List[source.type]  # type: ignore[name-defined]
        self._pages: msgspec.json.Decoder[List[T]] = msgspec.json.Decoder(pages)
        self._page_objects = PAGE_OBJECTS
        self._version = ""
        """Where the next watch goes on; empty: list first."""
        self.state = State.LISTING
        self.was_read = False
        """True once everything was read."""

    def __repr__(self) -> str:
        return f"<Watcher {self._source.namespace}/{self._source.kind} {self.state} at {self._version or 'nothing'}>"

    async def run(self) -> str:
        """Follow until it is denied. Returns: why."""
        while True:
            try:
                await self._follow()
            except _Expired:
                await self._pause_before_list()
            except ApiRefused as error:
                if error.status in _DENIALS and self._is_denied():
                    self._turn(State.DENIED, error.message or str(error))
                    return error.message or str(error)
                await self._pause(error, error.retry_after)
            except BadWatch as error:
                self._version = ""  # a list has what the unreadable event would have said
                await self._pause(error)
            except KubernetesError as error:
                await self._pause(error)

    async def _pause(self, error: Exception, asked: float = 0.0) -> None:
        self._turn(State.AWAY, str(error))
        await self._clock.sleep(max(self._backoff.next_delay(), min(asked, LONGEST_ASKED_PAUSE)))

    async def _pause_before_list(self) -> None:
        """A first 410 is usual; whoever answers with one after the other is not asked for list after list."""
        self._version = ""
        self._turn(State.LISTING)
        self._expiries += 1
        jitter = self._draw() * RELIST_JITTER
        await self._clock.sleep(jitter if self._expiries == 1 else max(self._backoff.next_delay(), jitter))

    def _is_denied(self) -> bool:
        """Tell whether a refusal counts: of what was never read at once, else when refusals have lasted."""
        now = self._clock.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        return not self.was_read or now - self._refused_since >= self._patience

    async def _follow(self) -> None:
        """Use one connection for as long as it lasts: a list when there is no version, then watch after watch."""
        async with self._api.connection() as connection:
            if not self._version:
                self._turn(State.LISTING)
                self._version = await self._list(connection)
            while connection.is_reusable:
                if await self._timed_watch(connection) < SHORT_WATCH:
                    raise ApiAway("the API server ended a watch right after its beginning")

    # -- lists -------------------------------------------------------------------------------

    async def _list(self, connection: Connection) -> str:
        """Read everything. Returns: the version that it is the state of."""
        self._sink.begin()
        token, version = "", ""
        while True:
            page = await self._page(connection, token)
            for found in page.items or ():
                self._sink.put(found)
            version = version or page.metadata.resource_version
            token = page.metadata.continue_token
            if not token:
                self._sink.finish()
                return version

    async def _page(self, connection: Connection, token: str) -> List[T]:
        asked: dict[str, str | int] = {"limit": self._page_objects, **({"continue": token} if token else {})}
        try:
            return await connection.get(self._source.target(**asked), self._pages, LARGEST_PAGE_BYTES)
        except TooLarge as error:
            if self._page_objects == 1:
                raise ApiAway(f"one of the {self._source.kind} is too large to be read") from error
            self._page_objects = max(1, self._page_objects // 4)
            raise ApiAway(f"a page of {self._source.kind} is too large; smaller ones are asked for") from error
        except ApiRefused as error:
            if error.status == _EXPIRED:
                raise _Expired from error
            raise

    # -- watches -----------------------------------------------------------------------------

    async def _timed_watch(self, connection: Connection) -> float:
        """Follow one watch. Returns: how many seconds it lasted; however it ends, the back-off hears of it."""
        began = self._clock.monotonic()
        try:
            await self._watch(connection)
        finally:
            lasted = self._clock.monotonic() - began
            self._backoff.note_lasted(lasted)
            if lasted >= SHORT_WATCH:
                self._expiries = 0
        return lasted

    async def _watch(self, connection: Connection) -> None:
        """Follow one watch to its end. Raises: _Expired, ApiAway, ApiRefused, BadWatch."""
        shortest, longest = WATCH_SECONDS
        seconds = round(shortest + self._draw() * (longest - shortest))
        answer = await self._ask(
            connection, watch=1, allowWatchBookmarks="true", resourceVersion=self._version, timeoutSeconds=seconds
        )
        self.was_read, self._refused_since = True, None
        self._turn(State.FOLLOWING)
        try:
            async with asyncio.timeout(seconds + WATCH_GRACE):
                await self._read(answer)
        except TimeoutError as error:
            raise ApiAway("the API server did not end a watch in its time") from error

    async def _read(self, answer: Answer) -> None:
        reader = WatchReader(self._source.type)
        async for piece in answer.pieces():
            for event in reader.feed(piece):
                self._take(event)
        if not reader.is_between_events:
            raise ApiAway("a watch ended in the middle of an event")

    async def _ask(self, connection: Connection, **parameters: str | int) -> Answer:
        try:
            return await connection.ask(self._source.target(**parameters))
        except ApiRefused as error:
            if error.status == _EXPIRED:
                raise _Expired from error
            raise

    def _take(self, event: Change[T] | Bookmark | Failure) -> None:
        if isinstance(event, Change):
            (self._sink.remove if event.type == "DELETED" else self._sink.put)(event.object)
            self._version = event.object.metadata.resource_version or self._version  # type: ignore[attr-defined]
        elif isinstance(event, Bookmark):
            self._version = event.resource_version or self._version
        elif event.is_expired:
            raise _Expired
        else:
            raise ApiRefused(event.code or 500, event.reason, event.message)

    def _turn(self, state: State, reason: str = "") -> None:
        if state is not self.state or reason:
            self.state = state
            self._sink.turned(state, reason)
