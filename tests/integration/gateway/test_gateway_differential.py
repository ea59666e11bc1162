"""The same requests through the gateway (edge, tunnel, agent) and through nginx, to the same target.

Well-formed traffic must come out the same; malformed traffic must never reach the target as a second request.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.support.gateway_cases import Case, all_cases, head, websocket_cases
from tests.support.gateway_stand import HOST, Answer, Stand, Wire, standing
from tests.support.gateway_target import WEBSOCKET_GUID
from tests.support.http1_script import BAD_REQUESTS

pytestmark = pytest.mark.proxies
OF_THE_HOP = frozenset({"date", "server", "connection", "keep-alive", "transfer-encoding", "content-length", "trailer"})
"""What a proxy says for itself; how a body is framed may differ, what it holds may not."""
CASES = all_cases()
WEBSOCKETS = websocket_cases()
KEY = base64.b64encode(b"0123456789abcdef").decode()
UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13")
SMUGGLED = f"GET /smuggled HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(nginx=tmp_path_factory.mktemp("nginx")) as found:
        yield found


def ask(port: int, case: Case) -> list[Answer]:
    with Wire(port) as wire:
        wire.send(*case.pieces)
        answers = [wire.answer(method) for method in case.methods]
        if case.ends:
            assert wire.to_end() == b""
        return answers


def plain(answer: Answer, without: frozenset[str]) -> dict[str, Any]:
    """Return what a client may rely on, whatever proxy is between."""
    found = {
        "status": answer.status,
        "fields": sorted((name, value) for name, value in answer.fields if name not in OF_THE_HOP),
        "body": (len(answer.body), hashlib.sha256(answer.body).hexdigest()),
        "trailers": answer.trailers,
        "interim": answer.interim,
    }
    return {key: value for key, value in found.items() if key not in without}


def test_suite_is_as_large_as_it_promises() -> None:
    assert len(CASES) + len(WEBSOCKETS) >= 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_answer_is_the_same_as_behind_nginx(stand: Stand, case: Case) -> None:
    ours, theirs = ask(stand.gateway, case), ask(stand.nginx, case)
    assert [plain(each, case.differs) for each in ours] == [plain(each, case.differs) for each in theirs]
    if case.differs and not case.name.startswith("HTTP/1.0"):  # which has neither trailers nor interim answers
        direct = ask(stand.target.port, case)
        wanted = frozenset({"status", "fields", "body", "trailers", "interim"}) - case.differs
        assert [plain(each, wanted) for each in ours] == [plain(each, wanted) for each in direct]


@pytest.mark.parametrize("case", [each for each in CASES if not each.ends], ids=lambda case: case.name)
def test_connection_is_kept_and_right_afterwards(stand: Stand, case: Case) -> None:
    with Wire(stand.gateway) as wire:
        wire.send(*case.pieces)
        for method in case.methods:
            wire.answer(method)
        wire.send(head("GET", "/sized?size=3"))
        assert wire.answer().status == 200


@pytest.mark.parametrize("name", ["GET", "HEAD"])
def test_length_of_an_answer_is_told_as_the_target_told_it(stand: Stand, name: str) -> None:
    case = Case("length", (head(name, "/echo"),), (name,))
    ours, direct = ask(stand.gateway, case)[0], ask(stand.target.port, case)[0]
    if name == "HEAD":
        assert ours.get("content-length") is not None
    assert (ours.get("content-length") is None) == (direct.get("content-length") is None)


# -- upgrades --------------------------------------------------------------------------------


def switch(port: int, target: str, lines: tuple[str, ...], pieces: tuple[bytes, ...], *, early: bool = False) -> Any:
    with Wire(port) as wire:
        request = head("GET", target, *lines)
        wire.send(request + pieces[0] if early else request)
        answer = wire.answer()
        wire.send(*(pieces[1:] if early else pieces))
        return answer.status, answer.get("upgrade"), answer.get("sec-websocket-accept"), wire.to_end()


@pytest.mark.parametrize("name", WEBSOCKETS)
def test_websocket_frames_pass_as_they_are(stand: Stand, name: str) -> None:
    pieces, early = WEBSOCKETS[name], name == "with the handshake"
    ours = switch(stand.gateway, "/websocket", UPGRADE, pieces, early=early)
    theirs = switch(stand.nginx, "/websocket", UPGRADE, pieces, early=early)
    assert ours == theirs
    accept = base64.b64encode(hashlib.sha1(KEY.encode() + WEBSOCKET_GUID).digest()).decode()
    assert ours[:3] == (101, "websocket", accept)
    assert ours[3]


@pytest.mark.parametrize("size", [1, 70_000])
def test_other_protocols_are_raw_bytes_with_an_end_of_each_side(stand: Stand, size: int) -> None:
    lines = ("Upgrade: towline-test", "Connection: Upgrade")
    with Wire(stand.gateway) as wire:
        wire.send(head("GET", "/switch", *lines))
        assert wire.answer().status == 101
        wire.send(b"a" * size)
        assert wire.exactly(size) == b"A" * size
        wire.sock.shutdown(1)
        assert wire.to_end() == b"bye"


def test_refused_upgrade_is_an_answer_and_the_end_of_the_connection(stand: Stand) -> None:
    with Wire(stand.gateway) as wire:
        wire.send(head("GET", "/no-switch", *UPGRADE))
        answer = wire.answer()
        assert (answer.status, answer.body) == (400, b"no upgrade here")
        assert wire.to_end() == b""


# -- what only differs in being stricter -------------------------------------------------------


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_malformed_request_never_reaches_the_target_as_two(stand: Stand, name: str) -> None:
    data, statuses = BAD_REQUESTS[name]
    before = len(stand.target.seen)
    with Wire(stand.gateway) as wire:
        with suppress(OSError):  # it may be refused while we still write
            wire.send(data.replace(b"app.example.test", HOST.encode()), SMUGGLED)
        said = wire.to_end()
    if said and not data.startswith(b"\x16"):
        assert int(said.split(b" ", 2)[1]) in statuses
    seen = stand.target.seen[before:]
    assert all("smuggled" not in request.target for request in seen)
    assert len(seen) <= 1


# -- what the target is told -------------------------------------------------------------------


def test_target_learns_who_asks_as_users_of_nginx_expect(stand: Stand) -> None:
    before = len(stand.target.seen)
    lines = ["X-Forwarded-For: 6.6.6.6", "X-Real-IP: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Proto: gopher"]
    case = Case("told", (head("GET", "/echo", *lines, "X_Forwarded_For: 6.6.6.6"),))
    ask(stand.gateway, case)
    told = [(name, value) for name, value in stand.target.seen[before].fields if "forwarded" in name or "real" in name]
    assert sorted(told) == [
        ("forwarded", f'for=127.0.0.1;proto=http;host="{HOST}"'),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", HOST),
        ("x-forwarded-port", "80"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "127.0.0.1"),
    ]


def test_trailers_of_a_request_reach_the_target(stand: Stand) -> None:
    data = head("POST", "/trailers", "Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"
    answer = ask(stand.gateway, Case("trailers", (data,), ("POST",)))[0]
    assert json.loads(answer.body) == [["x-sum", "1"]]
