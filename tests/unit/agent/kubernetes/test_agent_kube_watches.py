"""Watchers against scripts of bytes: pages, bookmarks, resuming, 410, denials and pauses, on a simulated clock."""

import json
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
        await run.clock.advance(0.9)
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
    lost = refusal(403, "Forbidden", "not any more")
    async with Run(page([thing("a")]), watch(end="cut"), *[lost] * 60) as run:
        await run.clock.advance(watches.DENIAL_PATIENCE + watches.LONGEST_PAUSE)
        assert await run.task == "not any more"


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
async def test_what_an_api_server_refuses_while_it_starts_takes_nothing_away(status: int) -> None:
    starting = [refusal(status, "", "not yet")] * 5
    back = watch(change("ADDED", thing("b", version="11")))
    async with Run(page([thing("a")]), watch(end="cut"), *starting, back) as run:
        await run.until_held(0.5)
        assert run.sink.here == {"a", "b"}
        assert State.DENIED not in [state for state, _ in run.sink.states]
        assert all("resourceVersion=10&" in query for query in run.queries[1:])


async def test_refusals_count_anew_after_each_time_that_it_could_be_read() -> None:
    refused = [refusal(403, "", "not yet")] * 12
    script = [page([thing("a")]), watch(end="cut"), *refused, watch(end="cut"), *refused, watch(end="cut"), *refused]
    async with Run(*script, watch()) as run:
        await run.until_held(0.5)
        assert run.sink.here == {"a"}


async def test_an_api_server_that_was_away_for_long_is_followed_again_within_seconds() -> None:
    away = [refusal(503, "ServiceUnavailable", "etcd is away")] * 3000
    async with Run(page([thing("a")]), watch(end="cut"), *away, draw=0.999) as run:
        await run.clock.advance(3600)
        run.server.script[PATH] = [refusal(410, "Expired"), page([thing("b")], version="90"), watch()]
        before = run.clock.monotonic()
        await run.until_held(0.25)
        assert run.clock.monotonic() - before <= 6, "the list of a large cluster needs the rest of the ten seconds"
        assert run.sink.here == {"b"}


async def test_an_api_server_that_finds_every_version_too_old_is_not_asked_for_list_after_list() -> None:
    script = [each for _ in range(100) for each in (page([]), watch(expired(), end="clean"))]
    async with Run(*script) as run:
        await run.clock.advance(60.0)
        assert 10 <= len(run.queries) <= 90


async def test_a_watch_that_outlasts_its_time_is_given_up(monkeypatch: Any) -> None:
    monkeypatch.setattr(watches, "WATCH_SECONDS", (0, 0))
    monkeypatch.setattr(watches, "WATCH_GRACE", 0.02)
    async with Run(page([thing("a")]), watch(), watch(change("ADDED", thing("b", version="11")), end="clean")) as run:
        await run.server.held.wait()
        while "b" not in run.sink.here:  # the one wait here is the event loop's own
            await run.clock.advance(1.0)
        assert (State.AWAY, "the API server did not end a watch in its time") in run.sink.states


@pytest.mark.parametrize(
    "garbage",
    [
        b"nonsense\n",
        b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}\n',
        b'{"type":"ADDED","object":null}\n',
        b'{"type":"ADDED","object":{"metadata":{"name":7}}}\n',
        b'{"type":"ERROR","object":[]}\n',
        b"[" * 100_000 + b"\n",
        b"\x00\x01\x02\n",
        b"x" * (8 * 1024 * 1024 + 1),
    ],
    ids=["text", "no UTF-8", "null", "wrong type", "no status", "deep", "zeros", "endless"],
)
async def test_an_event_that_cannot_be_read_leads_to_a_new_list(garbage: bytes) -> None:
    async with Run(page([thing("gone")]), watch(tail=garbage), page([thing("a")]), watch()) as run:
        await run.until_held(1.0)
        assert run.queries[2] == "limit=500"
        assert run.sink.here == {"a"}


@pytest.mark.parametrize("body", [b"nonsense", b'{"items":[{"metadata":{"name":"\xff"}}]}', b"[" * 100_000, b"[]"])
async def test_a_list_that_cannot_be_read_is_asked_for_again(body: bytes) -> None:
    whole = Played(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with Run(whole, page([thing("a")]), watch()) as run:
        await run.until_held(1.0)
        assert run.sink.here == {"a"}


async def test_a_refusal_that_cannot_be_read_is_a_refusal() -> None:
    raw = b'{"message":"\xff"}'
    refused = Played(b"HTTP/1.1 500 X\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
    async with Run(refused, page([thing("a")]), watch()) as run:
        await run.until_held(1.0)
        assert run.sink.here == {"a"}


EVENTS = (
    change("ADDED", thing("b", version="11")),
    change("DELETED", thing("a", version="12")),
    bookmark("13"),
    change("ADDED", thing("c", version="14")),
)


@pytest.mark.parametrize("cut", range(3, len(watch(*EVENTS).raw), 7))
async def test_a_watch_that_is_cut_anywhere_loses_nothing_and_doubles_nothing(cut: int) -> None:
    """The next watch begins behind the last whole event; a server that is asked for it plays the rest."""
    raw = watch(*EVENTS).raw[:cut]
    async with Run(page([thing("a")]), Played(raw, "cut")) as run:
        while len(run.queries) < 3:
            await run.clock.advance(0.5)
        query = run.queries[2]
        version = int(query.partition("resourceVersion=")[2].partition("&")[0])
        whole = [each for each in EVENTS if int(each["object"]["metadata"]["resourceVersion"]) <= version]
        names = {"a"}
        for each in whole:
            name = each["object"]["metadata"].get("name")
            if each["type"] == "ADDED":
                names.add(name)
            elif each["type"] == "DELETED":
                names.discard(name)
        assert run.sink.here == names
        assert version == max([10, *(10 + n + 1 for n, line in enumerate(EVENTS) if _is_in(line, raw))])


def _is_in(event: dict[str, Any], raw: bytes) -> bool:
    return json.dumps(event).encode() + b"\n" in raw


async def test_an_event_of_a_mebibyte_is_an_event() -> None:
    large = thing("b", version="11", data={"blob": "x" * 1024 * 1024})
    async with Run(page([]), watch(change("ADDED", large), bookmark("12"), end="cut"), piece=4096) as run:
        while len(run.queries) < 3:
            await run.clock.advance(0.5)
        assert "resourceVersion=12&" in run.queries[2]
        assert run.sink.here == {"b"}


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
async def test_a_wall_clock_that_jumps_changes_nothing(jump: float) -> None:
    script = (page([thing("a")]), watch(end="cut"), refusal(503, "", "no"), watch(end="cut"), watch())
    waits = []
    for by in (0.0, jump):
        async with Run(*script) as run:
            for _ in range(20):
                run.clock.jump(by)
                await run.clock.advance(0.5)
            assert run.server.held.is_set()
            waits.append(run.clock.sleeps)
    assert waits[0] == waits[1]


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
        assert 3 <= len(run.queries) <= 45, "not more than one in more than a second"


async def test_a_watch_that_ends_in_time_is_followed_by_the_next_on_the_same_connection() -> None:
    async with Run(page([]), watch(bookmark("20"), end="clean"), watch()) as run:
        watches_lasted = run.clock.monotonic
        run.clock.monotonic = lambda: watches_lasted() + 10 * len(run.server.requests)
        await run.until_held()
        assert run.server.dials == 1
        assert "resourceVersion=20&" in run.queries[2]


async def test_a_watch_that_ends_in_the_middle_of_an_event_is_not_a_clean_end() -> None:
    async with Run(page([]), watch(end="clean", tail=b'{"type":"ADD'), watch()) as run:
        await run.until_held(1.0)
        assert (State.AWAY, "a watch ended in the middle of an event") in run.sink.states


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
