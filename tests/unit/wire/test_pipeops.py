"""Messages of the PipeOps WebSocket: recordings word for word, and input spelt as Go programs take it."""

import json
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.pipeops_traces import agent_texts, server_messages

from towline.wire import pipeops
from towline.wire import pipeops_messages as messages

M = TypeVar("M", bound=messages.Message)

HEARTBEAT: dict[str, Any] = {
    "agent_id": "a",
    "cluster_id": "c",
    "metadata": {
        "agent_version": "1",
        "cpu_usage": "0%",
        "gateway_routes": 3,
        "is_private": True,
        "k8s_nodes": 1,
        "k8s_pods": 2,
        "k8s_version": "v1",
        "memory_usage": "0%",
    },
    "status": "healthy",
    "tunnel_status": "connected",
}


def text(**envelope: object) -> bytes:
    return json.dumps(envelope).encode()


def decoded(kind: type[M], raw: bytes) -> M:
    message = pipeops.decode(raw).message
    assert isinstance(message, kind)
    return message


@pytest.mark.parametrize("raw", list(agent_texts("pipeops-ws")), ids=lambda raw: json.loads(raw)["type"])
def test_a_recorded_message_of_the_agent_is_written_again_word_for_word(raw):
    envelope = pipeops.decode(raw)
    assert (
        pipeops.encode_as_agent(envelope.message, request_id=envelope.request_id, timestamp=envelope.timestamp) == raw
    )


@pytest.mark.parametrize("message", list(server_messages("pipeops-ws")), ids=lambda message: message["type"])
def test_a_recorded_message_of_the_control_plane_keeps_its_meaning(message):
    envelope = pipeops.decode(json.dumps(message).encode(), is_agent=True)
    if message["type"] == "no_such_thing":
        assert envelope.message == messages.Unknown(name="no_such_thing")
    else:
        assert json.loads(pipeops.encode(envelope.message, request_id=envelope.request_id)) == message


def test_numbers_may_come_as_floats():
    heartbeat = {**HEARTBEAT, "metadata": {**HEARTBEAT["metadata"], "k8s_pods": 7.0}}
    assert decoded(messages.Heartbeat, text(type="heartbeat", payload=heartbeat)).metadata.k8s_pods == 7


def test_case_of_keys_does_not_matter():
    shouted = text(TYPE="heartbeat", Request_ID="r", Payload={key.upper(): value for key, value in HEARTBEAT.items()})
    envelope = pipeops.decode(shouted)
    assert envelope.request_id == "r"
    assert decoded(messages.Heartbeat, shouted).agent_id == "a"


def test_an_exact_key_wins_over_one_in_another_case():
    assert decoded(messages.Error, b'{"type":"error","payload":{"error":"yes","ERROR":"no"}}').error == "yes"
    assert decoded(messages.Error, b'{"type":"error","payload":{"ERROR":"no","error":"yes"}}').error == "yes"


def test_unknown_keys_are_dropped():
    assert decoded(messages.Error, text(type="error", payload={"error": "e", "more": [1]}, extra=1)).error == "e"


def test_nulls_and_absent_fields_are_zero_values():
    message = decoded(messages.Heartbeat, text(type="heartbeat", payload={"agent_id": None, "metadata": None}))
    assert (message.agent_id, message.metadata.k8s_nodes, message.status) == ("", 0, "")


@pytest.mark.parametrize("payload", [b"", b',"payload":null', b',"payload":{}'])
def test_a_payload_may_be_left_out(payload):
    envelope = pipeops.decode(b'{"type":"ping","request_id":"u"' + payload + b"}", is_agent=True)
    assert (envelope.message, envelope.request_id) == (messages.Ping(), "u")


def test_values_of_text_maps_may_be_numbers():
    payload = {"labels": {"a": 1.0, "b": True, "c": None, "d": "x"}}
    register = decoded(messages.Register, text(type="register", payload=payload))
    assert register.labels == {"a": "1", "b": "true", "d": "x"}


@pytest.mark.parametrize("stamp", ["", 12, "yesterday", "2026-11-21T06:24:26"])
def test_a_timestamp_that_is_no_rfc_3339_text_costs_an_agent_the_message(stamp):
    with pytest.raises(pipeops.BadMessage, match="timestamp"):
        pipeops.decode(text(type="ping", request_id="u", timestamp=stamp), is_agent=True)


@pytest.mark.parametrize("stamp", ["", 12, "yesterday"])
def test_a_control_plane_takes_any_timestamp(stamp):
    assert pipeops.decode(text(type="ping", timestamp=stamp)).message == messages.Ping()


@pytest.mark.parametrize("stamp", [None, "2026-11-21T06:24:26.876194068Z", "2026-11-21T06:24:26+02:00"])
def test_an_agent_takes_a_valid_timestamp_or_none(stamp):
    assert pipeops.decode(text(type="ping", timestamp=stamp), is_agent=True).message == messages.Ping()


@pytest.mark.parametrize(("old", "new"), list(pipeops.SYNONYMS.items()))
def test_short_names_of_websocket_messages_are_understood(old, new):
    assert type(pipeops.decode(text(type=old, payload={"stream_id": "x"})).message) is pipeops.TYPES[new]


@pytest.mark.parametrize("key", ["is_websocket", "isWebSocket"])
def test_both_spellings_of_the_websocket_flag_are_understood(key):
    assert decoded(messages.ProxyRequest, text(type="proxy_request", payload={key: True})).is_websocket


def test_headers_may_be_texts_or_lists():
    payload = {"headers": {"A": "x", "B": ["y", "z"]}}
    request = decoded(messages.ProxyRequest, text(type="proxy_request", payload=payload))
    assert request.headers == {"A": "x", "B": ("y", "z")}


@pytest.mark.parametrize(
    ("payload", "stream"),
    [({}, "e"), ({"stream_id": "s"}, "s"), ({"stream_id": "s", "request_id": "r"}, "r")],
)
def test_the_payloads_ids_win_over_the_envelopes(payload, stream):
    assert pipeops.decode(text(type="proxy_websocket_data", request_id="e", payload=payload)).stream == stream


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"type":1}',
        b'{"type":"register","payload":[]}',
        b'{"type":"heartbeat","payload":{"metadata":7}}',
        b'{"type":"proxy_response_chunk","payload":{"data":"%%"}}',
        b"\xff\xfe",
        b'{"type":7,"\x94":1}',
        b"[" * 100_000,
        b'{"type":"register","payload":' + b'{"a":' * 100_000,
    ],
)
def test_what_is_no_message_is_refused(bad):
    with pytest.raises(pipeops.BadMessage):
        pipeops.decode(bad)


def test_a_refused_message_names_its_request():
    with pytest.raises(pipeops.BadMessage) as caught:
        pipeops.decode(text(type="register", request_id="req_1", payload={"labels": 7}))
    assert (caught.value.request_id, caught.value.type) == ("req_1", "register")


def test_a_message_over_the_limit_is_refused():
    with pytest.raises(pipeops.BadMessage, match="limit"):
        pipeops.decode(b" " * (pipeops.MAX_MESSAGE_BYTES + 1))


def test_a_token_is_in_no_repr():
    register = pipeops.decode(text(type="register", payload={"k8s_service_token": "s3cret"})).message
    join = {"env": {"K3S_TOKEN": "s3cret"}, "commands": ["s3cret"]}
    beat = {**HEARTBEAT, "grafana_password": "s3cret", "worker_join": join}
    heartbeat = pipeops.decode(text(type="heartbeat", payload=beat)).message
    request = messages.ProxyRequest(headers={"Authorization": "Bearer s3cret"})
    assert (
        "s3cret"
        not in f"{register!r} {heartbeat!r} {request!r} {messages.RegisterSuccess(cluster_id='c', token='s3cret')}"
    )
    assert "hidden" in repr(register)


def test_markup_is_escaped_as_the_agent_does():
    raw = pipeops.encode_as_agent(messages.Error(error="<a>&\u2028"), timestamp="t")
    assert b'"\\u003ca\\u003e\\u0026\\u2028"' in raw


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
FIELDS = sorted({name for struct in pipeops.TYPES.values() for name in struct.__struct_fields__})


@given(st.sampled_from(sorted(pipeops.TYPES)), st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8), JSON)
def test_any_payload_is_a_message_or_refused(name, payload, timestamp):
    raw = json.dumps({"type": name, "request_id": "r", "payload": payload, "timestamp": timestamp}).encode()
    for is_agent in (False, True):
        try:
            message = pipeops.decode(raw, is_agent=is_agent).message
        except pipeops.BadMessage:
            continue
        assert pipeops.decode(pipeops.encode(message)).message == message


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_refused(raw):
    try:
        pipeops.decode(raw)
    except pipeops.BadMessage as error:
        assert str(error)
