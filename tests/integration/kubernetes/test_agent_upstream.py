"""Connections to an API server that we play: TLS both ways, where it may not lead, and words for what is wrong."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trustme
import yaml
from tests.support.kube_agent import KubeBed, kube_agent, until

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes import upstream
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.kubernetes.probe import find_version
from towline.agent.settings import AgentSettings
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import Kube

AUTHORITY = trustme.CA()
CLIENT = AUTHORITY.issue_cert("agent@example.org")
ALICE = Kube(user="towline:alice", groups=("towline:role:admin",))
TIMEOUT = 20.0
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def api_server(
    serve: Serve, *, names: tuple[str, ...] = ("127.0.0.1",), certificate: bool = False
) -> AsyncIterator[int]:
    """A TLS server with a certificate of ours; `certificate`: it asks for the client's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        AUTHORITY.configure_trust(context)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def write(
    folder: Path, port: int, *, authority: trustme.CA = AUTHORITY, with_token: bool = True, name: str = ""
) -> Path:
    cluster = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": encoded(authority.cert_pem.bytes()),
        "tls-server-name": name,
    }
    certificate = {
        "client-certificate-data": encoded(CLIENT.cert_chain_pems[0].bytes()),
        "client-key-data": encoded(CLIENT.private_key_pem.bytes()),
    }
    config = {
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "secret"} if with_token else certificate}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def read_credentials(kubeconfig: Path) -> Credentials:
    return Credentials(find_source(msgspec.structs.replace(AgentSettings(), kubeconfig=kubeconfig), {}))


class Recorder:
    """Answers every request with the same bytes; `answer` empty: never."""

    def __init__(self, answer: bytes = OK) -> None:
        self.heads: list[bytes] = []
        self.protocols: list[str | None] = []
        self.ended = asyncio.Event()
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self.protocols.append(tls.selected_alpn_protocol())
        self.certificate = tls.getpeercert()
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(self._answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        finally:
            writer.transport.abort()


@asynccontextmanager
async def bed_of(recorder: Recorder, folder: Path) -> AsyncIterator[KubeBed]:
    async with asyncio.timeout(TIMEOUT), api_server(recorder.serve) as port, kube_agent(write(folder, port)) as bed:
        yield bed


async def test_http1_alone_is_offered_and_one_connection_serves_one_stream(tmp_path: Path) -> None:
    recorder = Recorder()
    async with bed_of(recorder, tmp_path) as bed:
        client = await bed.open(ALICE)
        for _ in range(3):
            assert (await client.ask("GET", "/version")).body == b"ok"
        assert (recorder.protocols, len(recorder.heads)) == (["http/1.1"], 3)
        await client.stream.aclose()
        await recorder.ended.wait()


async def test_client_certificate_is_shown_and_no_token_sent(tmp_path: Path) -> None:
    recorder = Recorder()
    async with (
        asyncio.timeout(TIMEOUT),
        api_server(recorder.serve, certificate=True) as port,
        kube_agent(write(tmp_path, port, with_token=False)) as bed,
    ):
        client = await bed.open(ALICE)
        assert (await client.ask("GET", "/version", "Authorization: Bearer stolen")).status == 200
        await client.stream.aclose()
        await recorder.ended.wait()
    assert recorder.certificate
    assert b"authorization" not in recorder.heads[0].lower()
    assert b"Impersonate-User: towline:alice\r\n" in recorder.heads[0]


async def test_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    recorder = Recorder()
    async with api_server(recorder.serve) as port, kube_agent(write(tmp_path, port, authority=trustme.CA())) as bed:
        with pytest.raises(TargetRefused, match="is not trusted: ") as refused:
            await bed.open(ALICE)
    assert (refused.value.code, recorder.heads) == ("unreachable", [])


async def test_certificate_of_another_name_is_refused_unless_the_kubeconfig_names_it(tmp_path: Path) -> None:
    body = b'{"gitVersion":"v1.31.2"}'
    recorder = Recorder(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    async with asyncio.timeout(TIMEOUT), api_server(recorder.serve, names=("kubernetes.default",)) as port:
        with pytest.raises(KubernetesError, match="is not trusted"):
            await find_version(read_credentials(write(tmp_path, port)))
        named = read_credentials(write(tmp_path, port, name="kubernetes.default"))
        assert await find_version(named) == "v1.31.2"


async def test_redirect_is_an_answer_and_nothing_more(tmp_path: Path) -> None:
    recorder = Recorder(b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/api\r\nContent-Length: 0\r\n\r\n")
    async with bed_of(recorder, tmp_path) as bed:
        client = await bed.open(ALICE)
        answer = await client.ask("GET", "/version")
        assert (answer.status, answer.head.get(b"location")) == (302, b"https://127.0.0.1:1/api")
        assert len(recorder.protocols) == 1
        client.stream.abort()


async def test_absolute_target_reaches_nobody(tmp_path: Path) -> None:
    recorder = Recorder()
    async with bed_of(recorder, tmp_path) as bed:
        client = await bed.open(ALICE)
        assert (await client.ask("GET", "https://127.0.0.1:1/version")).status == 400
        assert await client.stream.read() == b""
        await client.stream.aclose()
        await until(lambda: bed.router.open == 0)
    assert recorder.heads == []


async def test_client_that_goes_ends_the_connection_at_once(tmp_path: Path) -> None:
    recorder = Recorder(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
    async with bed_of(recorder, tmp_path) as bed:
        client = await bed.open(ALICE)
        await client.send("GET", "/api/v1/pods?watch=1")
        await client.read_head()
        client.stream.abort("gone")
        async with asyncio.timeout(2.0):
            await recorder.ended.wait()


async def test_slow_opener_holds_the_api_server_back_over_tls(tmp_path: Path) -> None:
    sent = 0
    blocked = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(bytes(100_000))
                sent += 100_000
                try:
                    async with asyncio.timeout(1.0):
                        await writer.drain()
                except TimeoutError:
                    blocked.set()
                    await writer.drain()
            await reader.read()  # until the opener has all of it and goes
        finally:
            writer.transport.abort()

    async with asyncio.timeout(TIMEOUT * 2), api_server(flood) as port, kube_agent(write(tmp_path, port)) as bed:
        client = await bed.open(ALICE)
        await client.send("GET", "/api/v1/pods")
        head = await client.read_head()
        await blocked.wait()
        assert sent < 32_000_000  # what sockets of loopback hold, beside one window
        size = 0
        async for piece in client.pieces(head, "GET"):
            size += len(piece)
        assert size == 100_000_000
        await client.stream.aclose()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", r"refuses the agent's credentials \(401\): renew"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", "answers 503"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer as one does"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\nConnection: close\r\n\r\n{}", "cut off"),
    ],
)
async def test_api_server_that_is_not_well_is_described(tmp_path: Path, answer: bytes, words: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with asyncio.timeout(TIMEOUT), api_server(serve) as port:
        with pytest.raises(KubernetesError, match=words) as described:
            await find_version(read_credentials(write(tmp_path, port)))
    assert "secret" not in str(described.value)


async def test_api_server_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT", 0.2)
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.transport.abort()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)  # no TLS: the handshake gets no answer
    async with server:
        kubeconfig = write(tmp_path, server.sockets[0].getsockname()[1])
        async with kube_agent(kubeconfig) as bed:
            with pytest.raises(TargetRefused, match=r"did not answer within 0\.2 s"):
                await bed.open(ALICE)
        over.set()


async def test_port_that_speaks_no_tls_is_named(tmp_path: Path) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    async with server, kube_agent(write(tmp_path, server.sockets[0].getsockname()[1])) as bed:
        with pytest.raises(TargetRefused, match="no TLS with the API server"):
            await bed.open(ALICE)
