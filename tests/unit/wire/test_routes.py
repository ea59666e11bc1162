"""Claims of names and the targets they lead to pass the wire and come out the same."""

import msgspec
import pytest

from towline.wire import link, streams

TARGETS = (
    streams.KubeService(namespace="shop", name="web", port="http"),
    streams.KubeService(namespace="shop", name="web-0", port="8080", resource="pod"),
    streams.KubeService(namespace="ingress", name="controller", port="443", tls=True, server_name="shop.example.com"),
    streams.Service(project="shop", service="web", port=80),
    streams.Tcp(host="10.0.0.7", port=5432),
)


@pytest.mark.parametrize("target", TARGETS)
def test_a_claim_comes_out_as_it_went_in(target):
    claim = link.RouteClaim(
        ref="ingress/shop/web/0/1",
        source="ingress",
        host="shop.example.com",
        path="/api",
        path_type="exact",
        target=target,
        tls=True,
        options={"body_limit": "1048576"},
        notes=("the annotation X is not honoured",),
        caution="it asks for a sign-in",
        problem="the service has no such port",
    )
    message = link.Routes(full=True, more=True, sequence=1, claims=(claim,), removed=("compose/a/b/c",))
    assert link.decode(link.encode(message)) == message


def test_further_backends_of_a_claim_pass():
    one, other = TARGETS[:2]
    claim = link.RouteClaim(
        ref="httproute/a/b/0/0", source="httproute", host="x.example.com", target=one, also=(other,)
    )
    message = link.Routes(full=False, sequence=2, claims=(claim,))
    assert link.decode(link.encode(message)) == message


def test_a_claim_that_says_little_is_short():
    claim = link.RouteClaim(ref="compose/a/b/c", source="compose", host="x.example.com", target=TARGETS[3])
    assert set(msgspec.to_builtins(claim)) == {"ref", "source", "host", "target"}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_of_a_stream_comes_out_as_it_went_in(target):
    header = streams.split_header(streams.encode_header(target))
    assert header is not None
    body, end = header
    assert streams.decode_target(body) == target
    assert end == len(body) + 4


def test_a_target_of_another_resource_is_refused():
    body = msgspec.json.encode({"kind": "kube_service", "namespace": "a", "name": "b", "port": "1", "resource": "node"})
    with pytest.raises(streams.BadHeader):
        streams.decode_target(body)


@pytest.mark.parametrize("is_private", [None, True, False])
def test_a_heartbeat_tells_whether_the_cluster_is_private(is_private):
    message = link.Heartbeat(sent_at=1.0, is_private=is_private, gateway_routes=7)
    assert link.decode(link.encode(message)) == message


@pytest.mark.parametrize("choice", ["auto", "on", "off"])
def test_settings_say_whether_ingresses_are_watched(choice):
    message = link.SettingsChanged(settings=link.LinkSettings(watch_ingresses=choice))
    assert link.decode(link.encode(message)) == message


def test_settings_of_an_older_server_leave_it_to_the_agent():
    found = link.decode(b'{"type":"settings","payload":{"settings":{"heartbeat_interval":5.0}}}')
    assert found == link.SettingsChanged(settings=link.LinkSettings(heartbeat_interval=5.0, watch_ingresses="auto"))


def test_a_claim_of_an_unknown_source_is_no_message():
    text = (
        b'{"type":"routes","payload":{"full":true,"sequence":1,"claims":[{"ref":"a","source":"magic","host":"b",'
        b'"target":{"kind":"tcp","host":"h","port":1}}]}}'
    )
    with pytest.raises(link.BadMessage):
        link.decode(text)


@pytest.mark.parametrize("read", [streams.decode_target, streams.decode_answer])
def test_text_that_is_no_utf8_is_a_bad_header(read):
    with pytest.raises(streams.BadHeader):
        read(b'{"kind":"\xff"}')
