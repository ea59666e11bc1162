"""Event streams of the surface: events with resuming, logs of many pods as one, and WebSockets."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.support.event_reader import EventReader
from tests.support.scripted_agent import until
from tests.support.small_api import SmallApi, pod
from tests.support.surface import Served, make_parts, served

from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.agent.surface import events, lasting, live, tokens, websocket
from towline.agent.surface.linkstate import Standing
from towline.agent.surface.live import LIVE, Live
from towline.agent.surface.ring import Ring
from towline.wire import tokens as wire_tokens

EVENTS, LOGS = "/api/realtime/events", "/api/realtime/logs"


def inside(surface: Served) -> Live:
    runner = surface.surface._runner
    assert runner is not None
    return runner.app[LIVE]


@asynccontextmanager
async def listening(surface: Served, path: str = EVENTS, **more: Any) -> AsyncIterator[EventReader]:
    more.setdefault("headers", surface.operator)
    async with surface.client.get(surface.url + path, **more) as got:
        assert got.status == 200, await got.text()
        assert got.headers["Content-Type"] == "text/event-stream"
        yield EventReader(got)


async def followed(surface: Served) -> None:
    """Wait until the cluster is followed, so that what comes now is a change."""
    await until(lambda: inside(surface).feed.status()["kubernetes"]["state"] == "connected")


# -- events --------------------------------------------------------------------------------------


async def test_stream_begins_with_the_state_of_everything(surface: Served) -> None:
    async with listening(surface) as reader:
        first = await reader.next()

    assert first.kind == "status"
    assert first.data["status"] == "standalone"
    assert set(first.data) == {"status", "control_plane", "kubernetes", "docker"}


async def test_change_in_the_cluster_arrives_with_the_object(api: SmallApi, surface: Served) -> None:
    async with listening(surface, f"{EVENTS}?types=event") as reader:
        await reader.next("status")
        await followed(surface)
        api.put("pods", pod("a", waiting="CrashLoopBackOff"))
        added = await reader.next("event")
        api.remove("pods", "web/a")
        removed = await reader.next("event")

    assert (added.data["source"], added.data["object"], added.data["change"]) == ("kubernetes", "pod", "added")
    assert "CrashLoopBackOff" in added.data["item"]["reason"]
    assert removed.data["change"] == "removed"


async def test_events_of_one_namespace_are_told_without_those_of_others(api: SmallApi, surface: Served) -> None:
    async with listening(surface, f"{EVENTS}?types=event&namespace=shop") as reader:
        await reader.next("status")
        await followed(surface)
        inside(surface).feed.ring.publish("event", {"source": "docker"})
        for namespace in ("web", "shop"):
            api.put("pods", pod("a", namespace=namespace))
        told = await reader.next("event")

    assert (told.data["item"]["namespace"], told.data["item"]["name"]) == ("shop", "a")


async def test_state_of_the_link_arrives_at_once(surface: Served) -> None:
    async with listening(surface, f"{EVENTS}?types=status") as reader:
        await reader.next("status")
        surface.parts.link.turned(Standing.CONNECTED, server="https://example.test", cluster="prod")
        while (told := await reader.next("status")).data["status"] != "connected":
            continue

    assert told.data["control_plane"]["cluster"] == "prod"


async def test_listener_goes_on_behind_its_last_id(surface: Served) -> None:
    async with listening(surface) as reader:
        await reader.next("status")
        ring = inside(surface).feed.ring
        for at in range(3):
            ring.publish("event", {"at": at})
        first = await reader.next("event")
    headers = {**surface.operator, "Last-Event-ID": first.id}
    async with listening(surface, headers=headers) as reader:
        assert [event.data["at"] for event in await reader.many(2, "event")] == [1, 2]
    async with listening(surface, f"{EVENTS}?lastEventId={first.id}") as reader:
        assert [event.data["at"] for event in await reader.many(2, "event")] == [1, 2]


async def test_gap_is_told_for_an_id_that_nobody_knows(surface: Served) -> None:
    async with listening(surface, headers={**surface.operator, "Last-Event-ID": "other-7"}) as reader:
        gap = await reader.next("gap")

    assert gap.data["missed"] is None


async def test_gap_says_how_many_went_past(surface: Served) -> None:
    feed = inside(surface).feed
    feed.ring = Ring(most_entries=5, boot="b")
    for at in range(20):
        feed.ring.publish("event", {"at": at})
    async with listening(surface, headers={**surface.operator, "Last-Event-ID": "b-10"}) as reader:
        gap = await reader.next("gap")
        rest = await reader.many(5, "event")

    assert gap.data["missed"] == 5
    assert [event.data["at"] for event in rest] == [15, 16, 17, 18, 19]


async def test_silence_is_broken_by_comments(surface: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_INTERVAL", 0.05)
    async with listening(surface, f"{EVENTS}?types=metrics") as reader:
        await reader.next("status")
        with pytest.raises(TimeoutError):
            await reader.next("metrics", timeout=0.5)

    assert reader.comments >= 2


async def test_ticket_opens_a_stream_once(surface: Served) -> None:
    async with surface.client.post(f"{surface.url}/api/tickets", headers=surface.reader) as got:
        ticket = (await got.json())["ticket"]
    async with listening(surface, f"{EVENTS}?ticket={ticket}", headers={}) as reader:
        await reader.next("status")

    status, _ = await surface.get(f"{EVENTS}?ticket={ticket}", headers={})
    assert status == 401


@pytest.mark.parametrize("query", ["types=", "types=nonsense", "types=event,nonsense", "lastEventId=%00"])
async def test_bad_parameter_of_a_stream_is_refused(surface: Served, query: str) -> None:
    status, body = await surface.get(f"{EVENTS}?{query}")

    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_one_stream_too_many_is_asked_to_wait(surface: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(live.MOST, "events", 1)
    async with listening(surface) as reader:
        await reader.next("status")
        status, body = await surface.get(EVENTS)
        assert (status, body["error"]["code"]) == (429, "throttled")
    await until(lambda: not inside(surface).statistics.live["events"])


async def test_client_that_does_not_read_is_cut(surface: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SLOW_SECONDS", 0.2)
    port = int(surface.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = f"GET {EVENTS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {surface.read}\r\n\r\n"
        client.sendall(head.encode())
        await until(lambda: inside(surface).feed.listeners == 1)
        for _ in range(300):
            inside(surface).feed.ring.publish("event", "x" * 50_000)
            await asyncio.sleep(0)
        await until(lambda: not inside(surface).feed.listeners)

    assert inside(surface).statistics.cut["events"] == 1


# -- logs of many pods ---------------------------------------------------------------------------


def lines_of(found: list[Any]) -> list[tuple[str, str]]:
    return [(event.data["source"], event.data["line"]) for event in found]


async def test_lines_of_all_pods_of_a_selector_come_in_one_stream(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a", app="x"))
    api.put("pods", pod("b", app="x"))
    api.put("pods", pod("c", app="y"))
    for name in "abc":
        await api.write(f"web/{name}/app", f"{name}1", f"{name}2")
    async with listening(surface, f"{LOGS}?selector=app%3Dx&tail=1") as reader:
        found = await reader.many(2, "log")
        await api.write("web/b/app", "b3")
        found.append(await reader.next("log"))

    assert sorted(lines_of(found)) == [("web/a/app", "a2"), ("web/b/app", "b2"), ("web/b/app", "b3")]
    assert found[0].data["at"].startswith("2026-01-01T00:00:00.001")


async def test_pod_that_comes_later_is_read_from_its_first_line(api: SmallApi, surface: Served) -> None:
    async with listening(surface, f"{LOGS}?namespace=web&tail=0") as reader:
        await api.write("web/late/app", "one", "two")
        api.put("pods", pod("late"))

        assert lines_of(await reader.many(2, "log")) == [("web/late/app", "one"), ("web/late/app", "two")]


async def test_only_lines_with_the_text_come(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    await api.write("web/a/app", "fine", "an error", "fine", "error again")
    async with listening(surface, f"{LOGS}?namespace=web&grep=error&tail=-1") as reader:
        assert [line for _, line in lines_of(await reader.many(2, "log"))] == ["an error", "error again"]


async def test_cut_connections_lose_and_double_nothing(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    async with listening(surface, f"{LOGS}?namespace=web&tail=0") as reader:
        await until(lambda: bool(api.log_connections))
        found: list[str] = []
        for round_ in range(4):
            await api.write("web/a/app", *(f"{round_}-{at}" for at in range(50)))
            found += [line for _, line in lines_of(await reader.many(25, "log"))]
            api.cut_logs()
            await until(lambda: not api.log_connections)
            found += [line for _, line in lines_of(await reader.many(25, "log"))]

    assert found == [f"{round_}-{at}" for round_ in range(4) for at in range(50)]


async def test_pod_that_goes_is_told(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    async with listening(surface, f"{LOGS}?namespace=web") as reader:
        await until(lambda: bool(api.log_connections))
        api.remove("pods", "web/a")
        api.cut_logs()

        assert (await reader.next("source")).data == {"source": "web/a/app", "text": "is gone"}


async def test_stream_says_why_it_ends(api: SmallApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lasting, "RECHECK_INTERVAL", 0.05)
    api.put("pods", pod("a"))
    made = make_parts(tmp_path / "agent", cluster=api.material)
    now = [made.policy()]
    async with (
        served(dataclasses.replace(made, policy=lambda: now[0])) as surface,
        listening(surface, f"{LOGS}?namespace=web") as reader,
    ):
        await until(lambda: bool(api.log_connections))
        now[0] = LocalPolicy(kubernetes=KubernetesRules(namespaces=("shop",)))

        assert "namespace web" in (await reader.next("ended")).data["reason"]
        await until(lambda: not api.log_connections)


async def test_a_renewed_token_ends_what_was_begun_with_it_and_nothing_else(
    api: SmallApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lasting, "RECHECK_INTERVAL", 0.05)
    made = make_parts(tmp_path / "agent", cluster=api.material)
    async with (
        served(made) as surface,
        listening(surface) as operating,
        listening(surface, headers=surface.reader) as reading,
    ):
        await operating.next("status")
        await followed(surface)
        file = made.settings.state_folder / tokens.OPERATE_FILE
        file.write_text(f"{wire_tokens.mint(tokens.TOKEN_PREFIX)}\n")
        with pytest.raises((aiohttp.ClientError, EOFError)):
            await operating.next("gap")

        api.put("pods", pod("late"))
        assert (await reading.next("event")).data["object"] == "pod"


async def test_container_that_begins_anew_goes_on_without_a_word_of_missing_lines(
    api: SmallApi, surface: Served
) -> None:
    api.put("pods", pod("a"))
    await api.write("web/a/app", "first run")
    async with listening(surface, f"{LOGS}?namespace=web&tail=-1") as reader:
        assert (await reader.next()).data["line"] == "first run"
        await api.finish("web/a/app")
        await until(lambda: not api.log_connections)
        api.logs["web/a/app"] = [b"2026-01-01T00:01:00.000000000Z second run\n"]
        api.ended.clear()
        api.put("pods", pod("a", waiting="CrashLoopBackOff"))

        assert (await reader.next()).data["line"] == "second run"


@pytest.mark.parametrize(
    "query",
    [
        "", "tail=5", "selector=a%20b", "namespace=web&project=p", "service=s", "namespace=a%2Fb",
        "namespace=web&tail=-2",
        "namespace=web&tail=x", "container=-x",
    ],
)  # fmt: skip
async def test_bad_parameter_of_logs_is_refused(surface: Served, query: str) -> None:
    status, body = await surface.get(f"{LOGS}?{query}", headers=surface.operator)

    assert (status, body["error"]["code"]) == (400, "bad_request")


# -- WebSocket -----------------------------------------------------------------------------------


class Socket:
    """A client of `/ws`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, kind: str, **payload: Any) -> None:
        await self.socket.send_json({"type": kind, "payload": payload, "id": kind})

    async def hear(self, kind: str) -> Any:
        async with asyncio.timeout(10):
            while True:
                message = await self.socket.receive_json()
                if message["type"] == kind:
                    return message


@asynccontextmanager
async def talking(surface: Served, **more: Any) -> AsyncIterator[Socket]:
    more.setdefault("headers", surface.operator)
    async with surface.client.ws_connect(f"{surface.url}/ws", **more) as opened:
        yield Socket(opened)


async def test_websocket_says_the_state_first_and_answers_questions(surface: Served) -> None:
    async with talking(surface) as one:
        assert (await one.hear("status"))["payload"]["status"] == "standalone"
        await one.say("ping")
        assert (await one.hear("pong"))["id"] == "ping"
        await one.say("get_metrics")
        assert (await one.hear("metrics"))["payload"]["memory"]["resident_bytes"] > 0


async def test_ticket_opens_a_websocket(surface: Served) -> None:
    async with surface.client.post(f"{surface.url}/api/tickets", headers=surface.reader) as got:
        ticket = (await got.json())["ticket"]
    async with surface.client.ws_connect(f"{surface.url}/ws?ticket={ticket}") as opened:
        assert (await opened.receive_json())["type"] == "status"


async def test_plain_request_to_the_websocket_is_refused(surface: Served) -> None:
    status, body = await surface.get("/ws")

    assert (status, body["error"]["code"]) == (400, "bad_request")


async def test_one_websocket_too_many_is_asked_to_wait(surface: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(live.MOST, "websocket", 1)
    async with talking(surface):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await surface.client.ws_connect(f"{surface.url}/ws", headers=surface.operator)

    assert caught.value.status == 429


async def test_silent_client_is_pinged_and_closed_when_it_does_not_answer(
    surface: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "PING_INTERVAL", 0.1)
    async with talking(surface, autoping=False) as one:
        kinds = []
        async with asyncio.timeout(10):
            while not one.socket.closed:
                kinds.append((await one.socket.receive()).type)

    assert aiohttp.WSMsgType.PING in kinds
    await until(lambda: not inside(surface).statistics.live["websocket"])


async def test_page_of_another_origin_gets_no_websocket(surface: Served) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with talking(surface, headers={**surface.operator, "Origin": "http://evil.example"}):
            pass

    assert caught.value.status == 403


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', "{}", '{"type": 1}', '{"type": "nonsense"}', '{"type": "command", "payload": {}}',
        '{"type": "subscribe"}', '{"type": "subscribe", "payload": {"topics": ["nonsense"]}}',
        '{"type": "subscribe", "payload": {"topic": "event"}}', '{"type": "subscribe", "payload": {"logs": {}}}',
        '{"type": "subscribe", "payload": {"logs": {"namespace": "web", "tail": -2}}}',
        '{"type": "subscribe", "payload": {"logs": {"selector": "a b"}}}',
        '{"type": "unsubscribe", "payload": {"subscription": 7}}', "[" * 5000,
    ],
)  # fmt: skip
async def test_bad_message_is_answered_and_the_connection_goes_on(surface: Served, text: str) -> None:
    async with talking(surface) as one:
        await one.socket.send_str(text)
        error = (await one.hear("error"))["payload"]
        await one.say("ping")
        await one.hear("pong")

    assert error["code"] in ("bad_request", "not_found")
    assert error["message"]


async def test_bytes_are_answered_with_an_error(surface: Served) -> None:
    async with talking(surface) as one:
        await one.socket.send_bytes(b"x")

        assert (await one.hear("error"))["payload"]["code"] == "bad_request"


async def test_subscriber_gets_what_it_asked_for_until_it_has_enough(surface: Served) -> None:
    ring = inside(surface).feed.ring
    async with talking(surface) as one:
        await one.say("subscribe", topics=["event"])
        assert (await one.hear("subscribed"))["payload"]["topics"] == ["event"]
        ring.publish("metrics", "not asked for")
        ring.publish("event", {"at": 1})
        first = await one.socket.receive_json()
        await one.say("unsubscribe", topics=["event"])
        await one.hear("unsubscribed")
        ring.publish("event", {"at": 2})
        await one.say("ping")
        last = await one.socket.receive_json()

    assert (first["type"], first["payload"]) == ("event", {"at": 1})
    assert last["type"] == "pong"


async def test_subscriber_goes_on_behind_an_id_or_learns_of_the_gap(surface: Served) -> None:
    ring = inside(surface).feed.ring
    for at in range(3):
        ring.publish("event", {"at": at})
    async with talking(surface) as one:
        await one.say("subscribe", topics=["event"], after=f"{ring.boot}-1")
        assert [(await one.hear("event"))["payload"]["at"] for _ in range(2)] == [1, 2]
        await one.say("subscribe", topics=["event"], after="other-1")
        assert (await one.hear("gap"))["payload"]["missed"] is None


async def test_one_event_reaches_every_client(surface: Served) -> None:
    ring = inside(surface).feed.ring
    opened = [await surface.client.ws_connect(f"{surface.url}/ws", headers=surface.reader) for _ in range(20)]
    for one in opened:
        await Socket(one).say("subscribe", topics=["event"])
        await Socket(one).hear("subscribed")
    ring.publish("event", {"at": 1})

    assert [(await Socket(one).hear("event"))["payload"]["at"] for one in opened] == [1] * 20
    for one in opened:
        await one.close()


async def test_logs_need_the_token_that_operates(surface: Served) -> None:
    async with talking(surface, headers=surface.reader) as one:
        await one.say("subscribe", logs={"namespace": "web"})

        assert (await one.hear("error"))["payload"]["code"] == "forbidden"


async def test_logs_come_by_subscription_and_end_with_it(api: SmallApi, surface: Served) -> None:
    api.put("pods", pod("a"))
    await api.write("web/a/app", "one")
    async with talking(surface) as one:
        await one.say("subscribe", logs={"namespace": "web"})
        number = (await one.hear("subscribed"))["payload"]["subscription"]
        log = (await one.hear("log"))["payload"]
        assert (log["subscription"], log["source"]) == (number, "web/a/app")
        assert [line["line"] for line in log["lines"]] == ["one"]
        await one.say("unsubscribe", subscription=number)
        await one.hear("unsubscribed")
        await until(lambda: not api.log_connections)
    await until(lambda: not inside(surface).statistics.live["logs"])


async def test_client_that_says_too_much_is_told_and_then_closed(surface: Served) -> None:
    async with talking(surface) as one:
        for _ in range(int(websocket.BURST) + websocket.MOST_REFUSED + 50):
            await one.socket.send_str('{"type": "ping"}')
        assert (await one.hear("error"))["payload"]["code"] == "throttled"
        async with asyncio.timeout(10):
            while (message := await one.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                continue

    assert message.data == 1008


async def test_message_that_is_too_long_closes_the_connection(surface: Served) -> None:
    async with talking(surface) as one:
        await one.socket.send_str(json.dumps({"type": "ping", "payload": {"x": "y" * websocket.MESSAGE_BYTES}}))
        async with asyncio.timeout(10):
            while (message := await one.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                continue

    assert message.data == 1009


async def test_everything_ends_with_the_surface(surface: Served) -> None:
    async with talking(surface) as one, listening(surface) as reader:
        await one.hear("status")
        await reader.next("status")
        await surface.surface.stop()
        async with asyncio.timeout(10):
            message = await one.socket.receive()

    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
