"""Every hop of a dial fails with its own error, on real sockets; trust is what the pins say."""

import asyncio
import base64
import contextlib
import datetime
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
from cryptography import x509
from tests.support.tunnel_pair import AnySigner, link_server

from towline.aio.tasks import TaskOwner
from towline.tunnel import dial as dialling
from towline.tunnel.dial import Endpoint, Route, Steps, dial, look_at_chain
from towline.tunnel.errors import DnsFailed, ProtocolFailed, ProxyFailed, TcpFailed, TlsFailed, UpgradeRefused
from towline.tunnel.handshake import enter
from towline.tunnel.trust import TrustAnchors, fingerprint


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def serving(certificate, authority=None):
    """A server's context; with an authority its certificate is sent along, as Towline's own server does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pem = certificate.private_key_and_cert_chain_pem.bytes()
    if authority is not None:
        pem += authority.cert_pem.bytes()
    with trustme.Blob(pem).tempfile() as path:
        context.load_cert_chain(path)
    return context


def pin_of(authority):
    return fingerprint(ssl.PEM_cert_to_DER_cert(authority.cert_pem.bytes().decode()))


async def try_dial(url, route=None, steps=None):
    """Dial, go through the handshake, and close."""
    async with TaskOwner("agent") as owner:
        session = await dial(Endpoint.parse(url), route or Route(), owner=owner, steps=steps)
        await enter(session, AnySigner())
        session.close()


# -- trust -----------------------------------------------------------------------------------


async def test_pinned_authority_is_enough_without_its_certificate(authority):
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"), authority)) as server:
        await try_dial(server.url, Route(TrustAnchors(fingerprints=(pin_of(authority),))))


async def test_pin_may_have_colons_and_capitals(authority):
    digits = pin_of(authority).removeprefix("sha256:").upper()
    pin = "SHA256:" + ":".join(digits[at : at + 2] for at in range(0, 64, 2))
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"), authority)) as server:
        await try_dial(server.url, Route(TrustAnchors(fingerprints=(pin,))))


async def test_pinned_leaf_is_enough(authority):
    certificate = authority.issue_cert("127.0.0.1")
    leaf = fingerprint(ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode()))
    async with link_server(context=serving(certificate)) as server:
        await try_dial(server.url, Route(TrustAnchors(fingerprints=(leaf,))))


async def test_next_pin_is_accepted_beside_the_current_one(authority):
    pins = ("sha256:" + "0" * 64, pin_of(authority))
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"), authority)) as server:
        await try_dial(server.url, Route(TrustAnchors(fingerprints=pins)))


async def test_pinned_certificate_at_hand_needs_no_look_at_the_chain(authority):
    anchors = TrustAnchors(fingerprints=(pin_of(authority),), ca_pem=authority.cert_pem.bytes().decode())
    assert not anchors.needs_chain
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"))) as server:
        await try_dial(server.url, Route(anchors))


async def test_other_server_is_refused_and_its_chain_shown(authority):
    other = trustme.CA()
    async with link_server(context=serving(other.issue_cert("127.0.0.1"), other)) as server:
        with pytest.raises(TlsFailed, match="no certificate with the pinned fingerprint") as failed:
            await try_dial(server.url, Route(TrustAnchors(fingerprints=(pin_of(authority),))))
        assert pin_of(other) in failed.value.chain[1]


async def test_chain_that_only_carries_the_pinned_certificate_is_refused(authority):
    """Sending somebody's public authority along proves nothing: the leaf must be signed by it."""
    other = trustme.CA()
    async with link_server(context=serving(other.issue_cert("127.0.0.1"), authority)) as server:
        with pytest.raises(TlsFailed, match="is not accepted"):
            await try_dial(server.url, Route(TrustAnchors(fingerprints=(pin_of(authority),))))


async def test_host_name_is_verified_under_a_pin(authority):
    async with link_server(context=serving(authority.issue_cert("elsewhere.example"), authority)) as server:
        with pytest.raises(TlsFailed, match="not accepted"):
            await try_dial(server.url, Route(TrustAnchors(fingerprints=(pin_of(authority),))))


async def test_file_of_authorities_replaces_the_systems(authority, tmp_path):
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.cert_pem.bytes())
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"))) as server:
        await try_dial(server.url, Route(TrustAnchors(ca_file=str(file))))
        with pytest.raises(TlsFailed, match="not accepted"):
            await try_dial(server.url, Route())


async def test_missing_file_of_authorities_is_named():
    with pytest.raises(TlsFailed, match=r"/nowhere/ca\.pem cannot be used"):
        await try_dial("https://127.0.0.1:1", Route(TrustAnchors(ca_file="/nowhere/ca.pem")))


@pytest.mark.parametrize("shift", [-400, 400], ids=["expired", "not yet valid"])
async def test_certificate_of_another_time_names_the_clock(authority, shift):
    now = datetime.datetime.now(datetime.UTC)
    begin = now + datetime.timedelta(days=shift)
    certificate = authority.issue_cert("127.0.0.1", not_before=begin, not_after=begin + datetime.timedelta(days=30))
    async with link_server(context=serving(certificate)) as server:
        anchors = TrustAnchors(ca_pem=authority.cert_pem.bytes().decode())
        with pytest.raises(TlsFailed) as failed:
            await try_dial(server.url, Route(anchors))
        assert "clock" in failed.value.hint


async def test_chain_can_be_looked_at_without_trust(authority):
    async with link_server(context=serving(authority.issue_cert("127.0.0.1"), authority)) as server:
        chain = await look_at_chain(Endpoint.parse(server.url), Route())
    assert [x509.load_der_x509_certificate(der).issuer for der in chain] == [
        x509.load_pem_x509_certificate(authority.cert_pem.bytes()).subject
    ] * 2


# -- hops ------------------------------------------------------------------------------------


async def test_unknown_name_is_a_dns_failure():
    with pytest.raises(DnsFailed, match="cannot be resolved"):
        await try_dial("https://no-such-host.invalid")


async def test_closed_port_is_a_tcp_failure():
    async with link_server() as server:
        url = server.url
    with pytest.raises(TcpFailed, match=r"127\.0\.0\.1 port \d+: "):
        await try_dial(url)


async def test_plain_port_is_named_when_tls_was_expected():
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", until=b"\x01") as url:
        with pytest.raises(TlsFailed) as failed:
            await try_dial(url.replace("http:", "https:"))
        assert "plain HTTP" in failed.value.hint


async def test_silent_port_is_named_when_tls_was_expected(monkeypatch):
    monkeypatch.setattr(dialling, "TLS_TIMEOUT", 0.05)
    async with answering(hold=True) as url:
        with pytest.raises(TlsFailed, match="during the TLS handshake"):
            await try_dial(url.replace("http:", "https:"))


@asynccontextmanager
async def answering(*replies, hold=False, until=b"\r\n\r\n"):
    """A listener that answers every request head with fixed bytes."""

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(until)
        for reply in replies:
            writer.write(reply)
        if hold:
            await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()


async def test_refused_upgrade_shows_status_and_body():
    reply = b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\nno such page\x1b\n"
    async with answering(reply) as url:
        with pytest.raises(UpgradeRefused, match="answered 404: no such page") as refused:
            await try_dial(url)
        assert refused.value.status == 404
        assert "\x1b" not in refused.value.body
        assert "WebSockets" in refused.value.hint


async def test_answer_that_is_not_http_is_named():
    async with answering(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") as url:
        with pytest.raises(UpgradeRefused, match="does not answer in HTTP"):
            await try_dial(url)


async def test_server_that_closes_instead_of_answering_is_named():
    async with answering() as url:
        with pytest.raises(ProtocolFailed, match="instead of answering"):
            await try_dial(url)


async def test_server_that_never_answers_the_upgrade_is_named(monkeypatch):
    monkeypatch.setattr(dialling, "UPGRADE_TIMEOUT", 0.05)
    async with answering(hold=True) as url:
        with pytest.raises(ProtocolFailed, match="did not answer the upgrade"):
            await try_dial(url)


async def test_steps_tell_how_far_it_came():
    steps = Steps()
    async with link_server() as server:
        await try_dial(server.url, steps=steps)
    assert steps.upgraded
    assert steps.connected_to == "127.0.0.1"


# -- proxies ---------------------------------------------------------------------------------


@asynccontextmanager
async def connect_proxy(credentials=None):
    """A small CONNECT proxy; yields its URL and the list of what was asked of it."""
    asked = []

    async def copy(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with TaskOwner("proxy") as owner:

        async def serve(reader, writer):
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            asked.append(request)
            wanted = base64.b64encode(credentials.encode()).decode() if credentials else ""
            if credentials and f"Basic {wanted}" not in request:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
                writer.close()
                return
            host, port = request.split()[1].rsplit(":", 1)
            there = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            owner.spawn("up", copy(reader, there[1]))
            owner.spawn("down", copy(there[0], writer))

        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        try:
            yield f"127.0.0.1:{listener.sockets[0].getsockname()[1]}", asked
        finally:
            listener.close()


async def test_link_passes_an_authenticating_proxy_with_tls_inside(authority):
    anchors = TrustAnchors(fingerprints=(pin_of(authority),))
    async with (
        connect_proxy("user:pass word") as (proxy, asked),
        link_server(context=serving(authority.issue_cert("127.0.0.1"), authority)) as server,
    ):
        environment = {"HTTPS_PROXY": f"http://user:pass%20word@{proxy}"}
        await try_dial(server.url, Route(anchors, environment=environment))
    assert all(request.startswith(f"CONNECT 127.0.0.1:{server.port} ") for request in asked)


async def test_wrong_credentials_are_told_without_showing_them():
    async with connect_proxy("user:right") as (proxy, _), link_server() as server:
        with pytest.raises(ProxyFailed) as failed:
            await try_dial(server.url, Route(proxy=f"http://user:wrong-secret@{proxy}"))
        assert failed.value.status == 407
        assert "wrong-secret" not in str(failed.value) + repr(failed.value)


async def test_exempt_server_is_dialled_directly():
    async with connect_proxy() as (proxy, asked), link_server() as server:
        environment = {"http_proxy": f"http://{proxy}", "no_proxy": "127.0.0.0/8"}
        await try_dial(server.url, Route(environment=environment))
    assert asked == []
