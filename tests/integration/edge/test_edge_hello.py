"""Looking at the ClientHello before TLS begins: whole, in pieces, never ending, and not at all when nobody asks."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from tests.support.edge import FAST, Links, NoApi, Raw, Routes

from towline.control.authority import certificates
from towline.gateway.certificates import ALPN_CHALLENGE, Certificates, Material, context_of
from towline.gateway.edge import Edge
from towline.gateway.interfaces import Answer

NOW = datetime.now(UTC)
NAME = "shop.example.test"
root_key = certificates.new_key()
root = certificates.new_authority(root_key, NOW)


def material(*names: str) -> Material:
    key = certificates.new_key()
    made = certificates.new_server(key, names, root, root_key, NOW)
    return Material(names[0], names, certificates.chain_pem(made), certificates.key_pem(key))


@asynccontextmanager
async def edge() -> AsyncIterator[tuple[int, Certificates]]:
    """An edge that serves one name and has a challenge open for another."""
    own = context_of(material("towline.test"))
    store = Certificates(lambda: own)
    store.replace([material(NAME)])
    store.challenge(NAME, material(NAME, "challenge.test"))
    routes = Routes({NAME: Answer(200, "hello", "", b"hello", b"text/plain")})
    running = Edge(
        replace(FAST, first_byte_timeout=1.0, handshake_timeout=2.0, header_timeout=2.0), router=routes, api=NoApi(),
        links=Links(), tls=store.context, hellos=store,
    )  # fmt: skip
    running.listen("127.0.0.1", 0)
    try:
        yield running.addresses[0][1], store
    finally:
        await running.close()


def client(*protocols: str) -> tuple[ssl.SSLObject, ssl.MemoryBIO, ssl.MemoryBIO]:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust.check_hostname = False
    trust.load_verify_locations(cadata=certificates.chain_pem(root).decode())
    if protocols:
        trust.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    return trust.wrap_bio(incoming, outgoing, server_hostname=NAME), incoming, outgoing


async def shake(port: int, *protocols: str, piece: int = 1 << 20) -> list[str]:
    """Shake hands, sending `piece` bytes at a time. Returns: the names of the certificate that was shown."""
    secured, incoming, outgoing = client(*protocols)
    async with await Raw.connect(port) as raw:
        while True:
            try:
                secured.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                for at in range(0, len(data), piece):
                    await raw.send(data[at : at + piece])
                    await asyncio.sleep(0)
                async with asyncio.timeout(5):
                    received = await raw.reader.read(65536)
                assert received, "the server hung up"
                incoming.write(received)
        der = secured.getpeercert(binary_form=True)
    assert der is not None
    found = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return found.value.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize("piece", [1, 7, 200, 1 << 20])
async def test_a_challenge_is_answered_however_its_hello_is_cut(piece: int) -> None:
    async with edge() as (port, _):
        assert "challenge.test" in await shake(port, ALPN_CHALLENGE, piece=piece)


@pytest.mark.parametrize("piece", [1, 1 << 20])
async def test_everybody_else_is_shown_the_certificate_of_the_name(piece: int) -> None:
    async with edge() as (port, store):
        assert await shake(port, "http/1.1", piece=piece) == [NAME]
        assert await shake(port, "h2", ALPN_CHALLENGE, piece=piece) == [NAME]
        store.end_challenge(NAME)
        assert await shake(port, piece=piece) == [NAME]


async def test_a_hello_that_never_ends_is_given_up_within_its_limit() -> None:
    async with edge() as (port, _):
        secured, _, outgoing = client()
        with pytest.raises(ssl.SSLWantReadError):
            secured.do_handshake()
        async with await Raw.connect(port) as raw:
            await raw.send(outgoing.read()[:60])
            async with asyncio.timeout(4):
                assert await raw.to_end() == b""


async def test_bytes_that_are_no_hello_are_left_to_tls() -> None:
    async with edge() as (port, _), await Raw.connect(port) as raw:
        await raw.send(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00")
        async with asyncio.timeout(4):
            await raw.to_end()  # an alert, and the end
