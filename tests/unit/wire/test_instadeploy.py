"""Messages of InstaDeploy: the recording reads back word for word, other text is refused in one way."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.wire import instadeploy
from towline.wire.instadeploy import BadMessage, Kind, Standing

TRACE = Path(__file__).parents[2] / "data" / "traces" / "instadeploy.jsonl"
LINES: list[dict[str, Any]] = [json.loads(line) for line in TRACE.read_text().splitlines()]
NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,40}", fullmatch=True)


@pytest.mark.parametrize("raw", [line["raw"] for line in LINES if line["dir"] == "agent" and "raw" in line])
def test_every_recorded_response_reads_back_with_the_same_words(raw: str) -> None:
    response = instadeploy.decode_response(raw)
    assert json.loads(instadeploy.encode_response(response)) == json.loads(raw)


@pytest.mark.parametrize("message", [line["msg"] for line in LINES if line["dir"] == "cp" and "msg" in line])
def test_every_recorded_command_reads_back_with_the_same_words(message: dict[str, Any]) -> None:
    command = instadeploy.decode_command(json.dumps(message))
    assert json.loads(instadeploy.encode_command(command)) == message


def test_a_recorded_upgrade_announces_the_agent() -> None:
    headers = next(line["headers"] for line in LINES if line["dir"] == "upgrade")
    announced = instadeploy.read_announcement(headers)
    assert announced == instadeploy.Announced(hostname="vm", version="1.0.0", architecture="linux-amd64")
    assert dict(instadeploy.announcement(announced)).items() <= headers.items()


def test_a_recorded_compose_file_is_decoded() -> None:
    message = next(line["msg"] for line in LINES if line.get("msg", {}).get("type") == "DEPLOY_COMPOSE")
    command = instadeploy.decode_command(json.dumps(message))
    assert command.kind is Kind.DEPLOY
    assert command.project == "trace"
    assert command.compose.startswith(b"services:\n  web:\n")
    assert instadeploy.deploy(command.id, command.project, command.compose) == command


@given(project=NAMES, compose=st.binary(max_size=500), job_id=st.text(min_size=1, max_size=40))
def test_a_deploy_carries_any_file_unchanged(project: str, compose: bytes, job_id: str) -> None:
    sent = instadeploy.deploy(job_id, project, compose)
    came = instadeploy.decode_command(instadeploy.encode_command(sent))
    assert (came.id, came.kind, came.project, came.compose) == (job_id, Kind.DEPLOY, project, compose)


@given(
    job_id=st.text(min_size=1, max_size=40),
    status=st.sampled_from(Standing),
    logs=st.text(max_size=200),
    error=st.text(max_size=200),
    data=st.none() | st.dictionaries(st.text(max_size=9), st.text(max_size=9)),
)
def test_a_response_survives_the_wire(job_id: str, status: Standing, logs: str, error: str, data: Any) -> None:
    response = instadeploy.Response(job_id=job_id, status=status, logs=logs, error=error, data=data)
    assert instadeploy.decode_response(instadeploy.encode_response(response)) == response


def test_what_is_empty_is_left_out_as_the_original_does() -> None:
    text = instadeploy.encode_response(instadeploy.Response(job_id="j", status=Standing.COMPLETED))
    assert text == '{"job_id":"j","status":"COMPLETED","logs":""}'


@pytest.mark.parametrize("payload", ["null", "{}", '{"project_name":null,"more":1}'])
def test_a_command_may_have_no_payload(payload: str) -> None:
    command = instadeploy.decode_command(f'{{"id":"j","type":"STATUS","payload":{payload},"new":[1]}}')
    with pytest.raises(BadMessage, match="required"):
        _ = command.project


def test_an_unknown_type_is_a_command_all_the_same() -> None:
    assert instadeploy.decode_command('{"id":"j","type":"NO_SUCH_TYPE"}').kind is None


@pytest.mark.parametrize("name", ["../x", "a/b", "a b", "", "a\n", "ä", 7, None, ["a"]])
def test_other_project_names_are_refused(name: Any) -> None:
    with pytest.raises(BadMessage, match="Invalid project name"):
        instadeploy.project_name(name)


@pytest.mark.parametrize("text", ["%%%", "YQ=", "Y", "ä", None, 7])
def test_what_is_not_base64_is_no_compose_file(text: Any) -> None:
    with pytest.raises(BadMessage, match="failed to decode compose file"):
        instadeploy.compose_file(text)


def test_a_wrapped_compose_file_is_read() -> None:
    assert instadeploy.compose_file("YWJj\r\nZGVm\n") == b"abcdef"


@pytest.mark.parametrize(
    "text", ["", "not json", "[]", "null", "7", "{}", '{"id":7}', '{"id":""}', "[" * 100_000, b"\xff"]
)
def test_what_is_no_command_is_refused(text: str | bytes) -> None:
    with pytest.raises(BadMessage):
        instadeploy.decode_command(text)


@pytest.mark.parametrize("status", ["DONE", "completed", ""])
def test_an_unknown_status_is_refused(status: str) -> None:
    with pytest.raises(BadMessage, match="status"):
        instadeploy.decode_response(json.dumps({"job_id": "j", "status": status}))


def test_too_much_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadMessage, match="limit"):
        instadeploy.decode_command("x" * (instadeploy.MAX_COMMAND_BYTES + 1))
    with pytest.raises(BadMessage, match="limit"):
        instadeploy.decode_response("x" * (instadeploy.MAX_RESPONSE_BYTES + 1))
    with pytest.raises(BadMessage, match="limit"):
        instadeploy.deploy("j", "p", b"x" * (instadeploy.MAX_COMPOSE_BYTES + 1))


def test_the_largest_compose_file_fits_a_command() -> None:
    command = instadeploy.deploy("j", "p" * 63, b"x" * instadeploy.MAX_COMPOSE_BYTES)
    assert len(instadeploy.decode_command(instadeploy.encode_command(command)).compose) == instadeploy.MAX_COMPOSE_BYTES


@pytest.mark.parametrize(
    "headers", [{}, {"x-agent-hostname": " "}, {"X-Agent-Hostname": "a" * 300}, {"X-Agent-Hostname": "a\x00"}]
)
def test_an_agent_without_a_usable_host_name_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(BadMessage):
        instadeploy.read_announcement(headers)


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_break_the_decoders(data: bytes) -> None:
    for decode in (instadeploy.decode_command, instadeploy.decode_response):
        try:
            decode(data)
        except BadMessage:
            continue
