"""One port for TLS and, on loopback alone, plain HTTP; server names, bad handshakes, and certificates that change."""

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from tests.support.edge import FAST, HOST, Raw, ask, raw_upstream, running_edge

from towline.gateway.tls import server_context

GET = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n".encode()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA, tmp_path: Path) -> ssl.SSLContext:
    issued = authority.issue_cert(HOST, "127.0.0.1", "other.example.test")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return server_context(certificate, key)


@pytest.fixture
def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def echo_body(connection: Raw) -> None:
    while True:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


async def test_one_port_speaks_tls_and_on_loopback_plain_http(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async with raw_upstream(echo_body) as port, running_edge(tls=server) as running:
        running.publish(port)
        async with await Raw.connect(running.port, ssl=client, server_hostname=HOST) as secure:
            for _ in range(2):
                await secure.send(GET + b"\r\n")
                assert (await secure.answer())[2] == b"ok"
            version = secure.writer.get_extra_info("ssl_object").version()
        assert version in ("TLSv1.2", "TLSv1.3")
        assert (await ask(running.port, GET + b"Connection: close\r\n\r\n")).endswith(b"ok")
        assert [(await running.record(n)).peer.scheme for n in range(3)] == ["https", "https", "http"]


async def test_plain_http_is_told_to_speak_https_where_it_is_not_served(server: ssl.SSLContext) -> None:
    options = replace(FAST, plain_from_loopback=False)
    async with running_edge(options=options, tls=server) as running:
        data = await ask(running.port, GET + b"\r\n")
        assert data.startswith(b"HTTP/1.1 400 ")
        assert b"https://" in data
        assert running.edge.counters.refused["plain_http"] == 1


async def test_server_name_and_host_must_agree(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async with (
        running_edge(tls=server) as running,
        await Raw.connect(running.port, ssl=client, server_hostname="other.example.test") as secure,
    ):
        await secure.send(GET + b"\r\n")
        assert (await secure.answer())[0] == 421


async def test_client_without_a_server_name_is_served(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async with raw_upstream(echo_body) as port, running_edge(tls=server) as running:
        running.publish(port)
        async with await Raw.connect(running.port, ssl=client, server_hostname="127.0.0.1") as secure:
            await secure.send(GET + b"\r\n")
            assert (await secure.answer())[0] == 200


@pytest.mark.parametrize("name", ["under_score.example.test", "*.example.test", "1.2.3.4.5"])
async def test_handshake_with_a_bad_server_name_is_refused(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str
) -> None:
    client.check_hostname = False
    async with running_edge(tls=server) as running:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await Raw.connect(running.port, ssl=client, server_hostname=name)
        while not running.edge.counters.handshake_failures:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "hello",
    [
        b"\x16",
        b"\x16\x03\x01\x00\x05hello",
        b"\x16\x03\x01\xff\xff" + bytes(65535),
        b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + bytes(16380),
        b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10",
    ],
    ids=["one byte", "garbage", "64 KiB record", "zeros", "SSLv2"],
)
async def test_bad_handshake_is_ended_within_its_limit(server: ssl.SSLContext, hello: bytes) -> None:
    async with running_edge(options=FAST, tls=server) as running, asyncio.timeout(5):
        await ask(running.port, hello)
        while running.edge.counters.open_connections:
            await asyncio.sleep(0.01)


async def test_handshake_in_single_bytes_is_accepted(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client.wrap_bio(incoming, outgoing, server_hostname=HOST)
    async with running_edge(tls=server) as running, await Raw.connect(running.port) as raw:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    await raw.send(bytes([byte]))
                incoming.write(await raw.reader.read(65536))
        assert tls.version() in ("TLSv1.2", "TLSv1.3")


async def test_new_certificate_serves_the_next_connection(
    server: ssl.SSLContext, client: ssl.SSLContext, authority: trustme.CA, tmp_path: Path
) -> None:
    current = [server]
    async with running_edge(tls=server) as running:
        running.edge._listener._tls = lambda: current[0]
        serials = []
        for _ in range(2):
            async with await Raw.connect(running.port, ssl=client, server_hostname=HOST) as secure:
                serials.append(secure.writer.get_extra_info("ssl_object").getpeercert()["serialNumber"])
            issued = authority.issue_cert(HOST)
            certificate, key = tmp_path / "new.pem", tmp_path / "new.key"
            certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
            key.write_bytes(issued.private_key_pem.bytes())
            current[0] = server_context(certificate, key)
        assert serials[0] != serials[1]


async def test_upgrade_inside_tls_passes_bytes_and_ends(server: ssl.SSLContext, client: ssl.SSLContext) -> None:
    async def upstream(connection: Raw) -> None:
        await connection.until(b"\r\n\r\n")
        await connection.send(b"HTTP/1.1 101 Switch\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n")
        await connection.send((await connection.exactly(5)).upper())

    async with raw_upstream(upstream) as port, running_edge(tls=server) as running:
        running.publish(port)
        async with await Raw.connect(running.port, ssl=client, server_hostname=HOST) as secure:
            await secure.send(GET + b"Connection: upgrade\r\nUpgrade: tcp\r\n\r\n")
            await secure.until(b"\r\n\r\n")
            await secure.send(b"hello")
            assert await secure.to_end() == b"HELLO"
