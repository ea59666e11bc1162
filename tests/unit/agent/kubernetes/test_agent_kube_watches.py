"""Watchers against scripts of bytes: pages, bookmarks, resuming, 410, denials and pauses, on a simulated clock."""

from typing import Any

import pytest
from tests.support.played_api import (
    Played,
    PlayedApi,
    bookmark,
    change,
    expired,
    page,
    refusal,
    thing,
    watch,
)  # fmt: skip

from towline.agent.kubernetes import watches
from towline.agent.kubernetes.api import Api
from towline.agent.kubernetes.watches import Source, State, Watcher
from towline.aio.clock import SimulatedClock
from towline.aio.tasks import TaskOwner
from towline.kube import objects

PATH = "/api/v1/pods"
SOURCE = Source("pods", "/api/v1", objects.Pod)


class Names:
    """A sink that keeps names, and every state."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.unseen: set[str] = set()
        self.states: list[tuple[State, str]] = []

    def begin(self) -> None:
        self.unseen = set(self.here)

    def put(self, found: objects.Pod) -> None:
        self.here.add(found.metadata.name)
        self.unseen.discard(found.metadata.name)

    def remove(self, found: objects.Pod) -> None:
        self.here.discard(found.metadata.name)

    def finish(self) -> None:
        self.here -= self.unseen

    def turned(self, state: State, reason: str) -> None:
        self.states.append((state, reason))


class Run:
    """A watcher that runs beside the test."""

    def __init__(self, *script: Played, piece: int = 65536, draw: float = 0.5) -> None:
        self.clock = SimulatedClock()
        self.server = PlayedApi({PATH: list(script)}, piece=piece)
        self.sink = Names()
        api = Api(self.server.credentials(self.clock), connect=self.server.connect)
        self.watcher: Watcher[Any] = Watcher(api, SOURCE, self.sink, clock=self.clock, draw=lambda: draw)
        self.owner = TaskOwner("test")

    async def __aenter__(self) -> "Run":
        self.task = self.owner.spawn("watch", self.watcher.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.owner.close()

    async def until_held(self, seconds: float = 0.0) -> None:
        """Let time pass until the script has nothing more to say."""
        for _ in range(2000):
            if self.server.held.is_set():
                return
            await self.clock.advance(seconds)
        raise AssertionError(f"the script was not played to its end: {self.server.requests}")

    @property
    def queries(self) -> list[str]:
        return self.server.asked(PATH)


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 65536])
async def test_lists_and_watches_mean_the_same_wherever_their_bytes_are_cut(piece: int) -> None:
    script = (
        page([thing("a"), thing("b")], version="10", more="next/="),
        page([thing("c")], version="10"),
        watch(change("ADDED", thing("d", version="11")), change("DELETED", thing("a", version="12"))),
    )
    async with Run(*script, piece=piece) as run:
        await run.until_held()
        assert run.sink.here == {"b", "c", "d"}
        assert run.queries == [
            "limit=500",
            "limit=500&continue=next%2F%3D",
            "watch=1&allowWatchBookmarks=true&resourceVersion=10&timeoutSeconds=360",
        ]
        assert [state for state, _ in run.sink.states] == [State.FOLLOWING]
        assert run.server.dials == 1


async def test_a_watch_that_was_cut_goes_on_from_the_last_bookmark() -> None:
    script = (
        page([thing("a")]),
        watch(change("ADDED", thing("b", version="11")), bookmark("57"), end="cut"),
        watch(change("ADDED", thing("c", version="58"))),
    )
    async with Run(*script) as run:
        await run.until_held(1.0)
        assert "resourceVersion=57&" in run.queries[2]
        assert run.sink.here == {"a", "b", "c"}
        assert [state for state, _ in run.sink.states] == [State.FOLLOWING, State.AWAY, State.FOLLOWING]


@pytest.mark.parametrize("told", [watch(expired(), end="clean"), refusal(410, "Expired")], ids=["event", "status"])
async def test_a_version_that_is_too_old_means_a_new_list_after_a_pause(told: Played) -> None:
    script = (page([thing("a"), thing("gone")]), told, page([thing("a"), thing("new")], version="90"), watch())
    async with Run(*script) as run:
        await run.clock.advance(2.4)
        assert len(run.queries) == 2, "the list must wait for its random pause"
        await run.until_held(0.2)
        assert run.queries[2] == "limit=500"
        assert "resourceVersion=90&" in run.queries[3]
        assert run.sink.here == {"a", "new"}


async def test_a_list_that_expires_between_its_pages_begins_anew() -> None:
    script = (page([thing("a")], more="old"), refusal(410, "Expired"), page([thing("b")]), watch())
    async with Run(*script) as run:
        await run.until_held(1.0)
        assert run.queries[:3] == ["limit=500", "limit=500&continue=old", "limit=500"]
        assert "b" in run.sink.here


@pytest.mark.parametrize("status", [403, 404])
async def test_what_may_not_be_read_ends_the_watcher_with_the_servers_words(status: int) -> None:
    async with Run(refusal(status, "Forbidden", 'pods is forbidden: User "x" cannot list')) as run:
        assert await run.task == 'pods is forbidden: User "x" cannot list'
        assert run.sink.states[-1] == (State.DENIED, 'pods is forbidden: User "x" cannot list')
        assert len(run.queries) == 1


async def test_a_right_that_is_lost_during_a_watch_is_a_denial_too() -> None:
    async with Run(page([thing("a")]), watch(end="cut"), refusal(403, "Forbidden", "not any more")) as run:
        await run.clock.advance(60)
        assert await run.task == "not any more"


async def test_a_server_that_asks_to_wait_is_left_alone_for_as_long() -> None:
    async with Run(refusal(429, "TooManyRequests", "slow", Retry_After="20"), page([thing("a")]), watch()) as run:
        await run.clock.advance(19.9)
        assert len(run.queries) == 1
        await run.until_held(0.2)
        assert run.sink.here == {"a"}


async def test_credentials_are_read_anew_after_a_401() -> None:
    async with Run(refusal(401, "Unauthorized"), page([thing("a")]), watch()) as run:
        await run.until_held(1.0)
        assert run.sink.here == {"a"}


async def test_watches_that_end_at_once_are_not_hammered() -> None:
    script = [page([])] + [watch(end="clean") for _ in range(50)]
    async with Run(*script) as run:
        await run.clock.advance(60.0)
        assert 3 <= len(run.queries) <= 20, "not more than one in some seconds"


async def test_a_watch_that_ends_in_time_is_followed_by_the_next_on_the_same_connection() -> None:
    async with Run(page([]), watch(bookmark("20"), end="clean"), watch()) as run:
        watches_lasted = run.clock.monotonic
        run.clock.monotonic = lambda: watches_lasted() + 10 * len(run.server.requests)  # type: ignore[method-assign]
        await run.until_held()
        assert run.server.dials == 1
        assert "resourceVersion=20&" in run.queries[2]


async def test_a_watch_that_ends_in_the_middle_of_an_event_is_not_a_clean_end() -> None:
    async with Run(page([]), watch(end="clean", tail=b'{"type":"ADD'), watch()) as run:
        await run.until_held(1.0)
        assert (State.AWAY, "a watch ended in the middle of an event") in run.sink.states


async def test_an_event_that_cannot_be_read_leads_to_a_new_list() -> None:
    async with Run(page([]), watch(tail=b"nonsense\n"), page([thing("a")]), watch()) as run:
        await run.until_held(1.0)
        assert run.queries[2] == "limit=500"
        assert run.sink.here == {"a"}


async def test_a_page_that_is_too_large_is_asked_for_again_with_fewer_objects(monkeypatch: Any) -> None:
    monkeypatch.setattr(watches, "LARGEST_PAGE_BYTES", 2000)
    many = [thing(f"pod-{number}") for number in range(100)]
    async with Run(page(many), page(many[:2]), watch()) as run:
        await run.until_held(1.0)
        assert run.queries[:2] == ["limit=500", "limit=125"]
        assert len(run.sink.here) == 2


async def test_an_answer_that_is_cut_is_never_taken_for_a_whole_list() -> None:
    cut = page([thing("a")])
    async with Run(Played(cut.raw[:-5], "cut"), page([thing("b")]), watch()) as run:
        await run.until_held(1.0)
        assert run.sink.here == {"b"}
        cause = "the API server closed the connection in the middle of an answer"
        assert run.sink.states[0] == (State.AWAY, cause)
