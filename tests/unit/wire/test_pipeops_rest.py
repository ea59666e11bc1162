"""Bodies of the PipeOps REST protocol: the recording reads back word for word, Go's nulls are read."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.wire import pipeops_rest, rfc3339
from towline.wire.pipeops_rest import BadBody, Body, Heartbeat, Registration, Result, Status

TRACE = Path(__file__).parents[2] / "data" / "traces" / "pipeops-rest.jsonl"
CALLS: list[dict[str, Any]] = [json.loads(line) for line in TRACE.read_text().splitlines()]
KINDS: dict[str, type[Body]] = {"register": Registration, "heartbeat": Heartbeat, "status": Status}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=12,
)
STATUSES = st.builds(
    Status,
    nodes=st.lists(st.builds(pipeops_rest.Node), max_size=3).map(tuple),
    namespaces=st.lists(st.text(max_size=9)).map(tuple),
    pods=st.lists(st.builds(pipeops_rest.Pod, restarts=st.integers(0, 99)), max_size=3).map(tuple),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: str(call["t"]))
def test_every_recorded_body_is_read(call: dict[str, Any]) -> None:
    kind = KINDS[call["path"].rpartition("/")[2]]
    body = pipeops_rest.decode(kind, call["body"])
    told, recorded = json.loads(pipeops_rest.encode(body)), json.loads(call["body"])
    assert _superset(told, recorded)


def _superset(told: Any, recorded: Any) -> bool:
    if isinstance(recorded, dict):
        return all(key in told and _superset(told[key], value) for key, value in recorded.items())
    if isinstance(recorded, list):
        return len(told) == len(recorded) and all(map(_superset, told, recorded))
    return bool(told == recorded)


@pytest.mark.parametrize(
    "call", [call for call in CALLS if not call["path"].endswith("status")], ids=lambda c: str(c["t"])
)
def test_small_bodies_are_written_word_for_word(call: dict[str, Any]) -> None:
    body = pipeops_rest.decode(KINDS[call["path"].rpartition("/")[2]], call["body"])
    assert pipeops_rest.encode(body).decode() == call["body"]


def test_the_recorded_paths_are_ours() -> None:
    paths = {call["path"] for call in CALLS}
    named = "agent-rest-1"
    ours = {pipeops_rest.REGISTER_PATH, pipeops_rest.heartbeat_path(named), pipeops_rest.status_path(named)}
    assert paths == ours


def test_a_path_holds_no_more_than_its_id() -> None:
    assert pipeops_rest.result_path("a", "../x?y#z") == "/api/v1/agents/a/commands/..%2Fx%3Fy%23z/result"


def test_nulls_of_go_are_absent() -> None:
    status = pipeops_rest.decode(
        Status,
        '{"nodes":null,"namespaces":["a",null],"pods":[{"name":"p","labels":null,"restarts":2.0}],"metrics":null}',
    )
    assert status.nodes == () and status.namespaces == ("a",)
    assert status.pods[0].labels == {} and status.pods[0].restarts == 2


def test_unknown_keys_are_dropped() -> None:
    assert pipeops_rest.decode(Heartbeat, '{"agent_id":"a","news":{"x":[1]}}').agent_id == "a"


def test_commands_read_back() -> None:
    text = '{"commands":[{"id":"c1","type":"kubectl","payload":{"args":["get","pods"],"timeout":30},"created_at":"x"}]}'
    commands = pipeops_rest.decode(pipeops_rest.Commands, text).commands
    assert pipeops_rest.run_payload(commands[0]) == pipeops_rest.Run(args=("get", "pods"), timeout=30)
    assert pipeops_rest.decode(pipeops_rest.Commands, '{"commands":null}').commands == ()


@pytest.mark.parametrize("payload", [{"args": "get pods"}, {"args": [1, {}]}, {"timeout": "soon"}])
def test_a_payload_of_the_wrong_shape_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(BadBody):
        pipeops_rest.run_payload(pipeops_rest.Command(id="c", type="kubectl", payload=payload))


def test_a_command_of_an_unknown_type_has_no_payload_to_run() -> None:
    with pytest.raises(BadBody, match="not known"):
        pipeops_rest.run_payload(pipeops_rest.Command(id="c", type="reboot"))


def test_a_result_leaves_out_what_is_empty() -> None:
    body = pipeops_rest.encode(Result(success=True, output="ok", timestamp="t"))
    assert body == b'{"success":true,"output":"ok","timestamp":"t"}'


@pytest.mark.parametrize("text", ["", "null", "[]", "7", "{", '{"labels":[]}', '{"id":{}}', "[" * 100_000, b"\xff"])
def test_what_is_no_registration_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadBody):
        pipeops_rest.decode(Registration, text)


def test_too_much_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadBody, match="limit"):
        pipeops_rest.decode(Heartbeat, "x" * (pipeops_rest.MAX_SMALL_BYTES + 1))


@pytest.mark.parametrize("text", ["", "../x", "a/b", "a b", ".a", "a" * 200, "ä"])
def test_other_ids_are_refused(text: str) -> None:
    with pytest.raises(BadBody):
        pipeops_rest.agent_id(text)


@given(value=JSON, kind=st.sampled_from([Registration, Heartbeat, Status, Result, pipeops_rest.Commands]))
def test_no_json_breaks_the_decoder(value: Any, kind: type[Body]) -> None:
    for text in (
        msgspec.json.encode(value),
        json.dumps({"id": "a", "nodes": value, "labels": value, "commands": [value]}),
    ):
        try:
            pipeops_rest.decode(kind, text)
        except BadBody:
            continue


@given(STATUSES)
def test_a_status_survives_the_wire(status: Status) -> None:
    assert pipeops_rest.decode(Status, pipeops_rest.encode(status)) == status


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0), ("1970-01-01T00:00:01.123456789Z", 1.123456), ("1970-01-01T02:00:01+02:00", 1.0),
        ("1970-01-01t00:00:01.5z", 1.5),
    ],
)  # fmt: skip
def test_moments_of_go_are_read(text: str, seconds: float) -> None:
    moment = rfc3339.parse(text)
    assert moment is not None and moment.timestamp() == pytest.approx(seconds, abs=1e-6)
    assert rfc3339.parse(rfc3339.write(moment)) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1970-13-01T00:00:01Z",
        "1970-01-01T00:00:01",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "17",
    ],
)
def test_other_text_is_no_moment(text: str) -> None:
    assert rfc3339.parse(text) is None
