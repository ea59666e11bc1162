"""What the command line sends again, and what never."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from towline.cli import client
from towline.cli.client import Client
from towline.cli.credentials import Login
from towline.cli.errors import AWAY, CliError


class Wire(httpx.BaseTransport):
    """Answers with what it was given, one after the other."""

    def __init__(self, *answers: Exception | int) -> None:
        self._answers = list(answers)
        self.keys: list[str | None] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, json={"id": "run_1"})


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(client, "SEND_AGAIN_AFTER", (0.0, 0.0))
    yield


def post(wire: Wire) -> dict[str, str]:
    found: dict[str, str] = Client(Login("http://towline.test", "t"), transport=wire).post_once("commands/runs", {})
    return found


def test_what_must_not_happen_twice_goes_again_under_its_key_when_the_answer_was_lost() -> None:
    wire = Wire(httpx.ReadError("cut"), httpx.ConnectError("restarting"), 201)

    assert post(wire) == {"id": "run_1"}
    assert len(set(wire.keys)) == 1
    assert wire.keys[0]


def test_two_calls_have_two_keys() -> None:
    wire = Wire(201, 201)
    post(wire)
    post(wire)
    assert len(set(wire.keys)) == 2


@pytest.mark.parametrize("first", [httpx.ConnectError("refused"), 403])
def test_what_never_arrived_and_what_was_refused_are_told_at_once(first: Exception | int) -> None:
    wire = Wire(first)
    with pytest.raises(CliError):
        post(wire)
    assert len(wire.keys) == 1


def test_a_server_that_stays_away_is_told_in_the_end() -> None:
    wire = Wire(httpx.ReadError("cut"), httpx.ConnectError("away"), httpx.ConnectError("away"))
    with pytest.raises(CliError) as caught:
        post(wire)
    assert caught.value.code == AWAY
