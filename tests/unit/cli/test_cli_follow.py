import json
from collections.abc import Iterator
from typing import Any

import pytest

from towline.cli.errors import AWAY, FAILED, CliError
from towline.cli.follow import Reporter, check, follow
from towline.cli.sse import ServerEvent

JOB: dict[str, Any] = {
    "id": "job_1", "kind": "compose.deploy", "state": "succeeded", "error": "",
    "cluster": {"name": "edge-1"}, "deployment": {"name": "shop"},
}  # fmt: skip


class Server:
    """Answers what was prepared: events of one connection after the other; an error breaks it."""

    def __init__(self, *connections: list[ServerEvent | CliError]) -> None:
        self.connections = list(connections)
        self.asked_after: list[int] = []
        self.job = JOB | {"state": "running"}

    def events(self, path: str, *, after: int, follow: int) -> Iterator[ServerEvent]:
        self.asked_after.append(after)
        for event in self.connections.pop(0):
            if isinstance(event, CliError):
                raise event
            yield event
        if not self.connections:
            self.job = JOB

    def get(self, path: str) -> dict[str, Any]:
        return self.job


def progress(seq: int, text: str, stage: str = "pulling") -> ServerEvent:
    return ServerEvent("progress", json.dumps({"seq": seq, "stage": stage, "text": text, "service": "", "total": 0}))


def test_a_broken_connection_is_made_again_behind_the_last_event(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("towline.cli.follow.RECONNECT_PAUSE", 0)
    server = Server([progress(1, "one"), progress(2, "two"), CliError("it broke", code=AWAY)], [progress(3, "three")])
    assert follow(server, "job_1")["state"] == "succeeded"
    assert server.asked_after == [0, 2]
    said = capsys.readouterr().err
    assert [said.count(word) for word in ("one", "two", "it broke", "three")] == [1, 1, 1, 1]


def test_another_error_ends_it_at_once() -> None:
    with pytest.raises(CliError, match="not yours"):
        follow(Server([CliError("not yours", code=FAILED)]), "job_1")


def test_how_a_job_ended_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Reporter() as reporter:
        reporter.event(progress(1, "succeeded", stage=""))
    check(JOB, "rollback")
    assert capsys.readouterr().err == "edge-1/shop: rollback succeeded\n"


@pytest.mark.parametrize(
    ("state", "code"), [("failed", FAILED), ("cancelled", FAILED), ("expired", AWAY), ("running", AWAY)]
)
def test_the_end_of_a_job_is_the_exit_code(state: str, code: int) -> None:
    with pytest.raises(CliError) as caught:
        check(JOB | {"state": state})
    assert caught.value.code == code
