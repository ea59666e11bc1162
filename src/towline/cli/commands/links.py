"""`link`, `forward`, `ssh`: the line to a cluster, and private TCP through it."""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from towline.aio.tasks import TaskOwner
from towline.cli import stdin
from towline.cli.client import Client, quoted
from towline.cli.errors import USAGE, CliError, from_close
from towline.cli.options import ClusterName, Output, client
from towline.cli.output import Format, ago, done, quiet_logs, show_facts, state

app = typer.Typer(help="The link of a cluster: how it is, and what it can carry.", no_args_is_help=True)
EOF_MESSAGE = '{"eof":true}'
READ_BYTES = 64 * 1024
SSH_PORT = 22

Write = Callable[[bytes], Awaitable[None]]
Read = Callable[[], Awaitable[bytes]]


def register(root: typer.Typer) -> None:
    root.add_typer(app, name="link")
    root.command()(forward)
    root.command()(ssh)


@app.command("show")
def show_link(cluster: ClusterName, output: Output = Format.TABLE) -> None:
    """Show the link of a cluster and what the server sees of it."""
    with client() as api:
        seen = api.get(f"clusters/{quoted(cluster)}/link/doctor")
    checks = [(check["name"], _check(check)) for check in seen.get("checks", [])]
    link = seen.get("link") or {}
    rtt = link.get("rtt_ms") or {}
    facts = [
        ("connected", link.get("connected")), ("since", ago(link.get("connected_since"))),
        ("from", link.get("address")), ("round trip", f"{rtt['median']:.1f} ms" if rtt.get("median") else ""),
        ("reconnects", link.get("reconnects")), ("last error", link.get("last_error")), *checks,
    ]  # fmt: skip
    show_facts(seen, output, facts)


@app.command("test")
def test_link(
    cluster: ClusterName,
    seconds: Annotated[float, typer.Option(min=0.5, max=30, help="How long to measure each way.")] = 3.0,
    output: Output = Format.TABLE,
) -> None:
    """Measure throughput both ways and the round trip."""
    with client() as api:
        measured = api.post(f"clusters/{quoted(cluster)}/link/test", {"seconds": seconds})
    facts = [
        ("to the cluster", f"{measured['up_bytes_per_second'] / 1e6:.1f} MB/s"),
        ("from the cluster", f"{measured['down_bytes_per_second'] / 1e6:.1f} MB/s"),
        ("round trip", f"{measured['rtt_ms']['median']:.1f} ms"),
    ]
    show_facts(measured, output, facts)


def forward(
    cluster: ClusterName,
    target: Annotated[str, typer.Argument(help="HOST:PORT as the cluster's host reaches it.", metavar="HOST:PORT")],
    local: Annotated[str, typer.Argument(help="[ADDRESS:]PORT to listen on; default: the same port here.")] = "",
) -> None:
    """Carry local connections to an address behind the cluster, until Ctrl-C."""
    quiet_logs()
    host, port = address(target)
    listen_host, listen_port = address(local if ":" in local else f"127.0.0.1:{local or port}")
    with client() as api, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(api, cluster, (host, port), (listen_host, listen_port)))


def ssh(
    cluster: ClusterName,
    target: Annotated[
        str, typer.Argument(help="HOST:PORT as the cluster's host reaches it.")
    ] = f"127.0.0.1:{SSH_PORT}",
) -> None:
    """Connect standard input and output to the host's SSH server: ProxyCommand towline ssh CLUSTER."""
    quiet_logs()
    host, port = address(target)
    with client() as api:
        asyncio.run(_pipe(api, cluster, host, port))


def address(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[IPV6]:PORT` included. Raises: CliError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise CliError(f"{text!r} is not HOST:PORT", hint="for example: 127.0.0.1:5432", code=USAGE)
    return host.strip("[]"), int(port)


def _check(check: dict[str, Any]) -> Any:
    return state("healthy" if check["ok"] else "down", check.get("reason", ""))


async def _serve(api: Client, cluster: str, target: tuple[str, int], listen: tuple[str, int]) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _connect(api, cluster, *target, lambda: reader.read(READ_BYTES), *_writing(writer))
        except CliError as error:
            done(f"{target[0]}:{target[1]}: {error.message}")
        except OSError:
            done(f"{target[0]}:{target[1]}: the program here closed its connection early")
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(carry, *listen)
    except OSError as error:
        raise CliError(f"cannot listen on {listen[0]}:{listen[1]}: {error.strerror}", code=USAGE) from error
    done(f"{listen[0]}:{listen[1]} leads to {target[0]}:{target[1]} behind {cluster}; Ctrl-C ends it")
    async with server:
        await server.serve_forever()


def _writing(writer: asyncio.StreamWriter) -> tuple[Write, Callable[[], None]]:
    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return write, lambda: writer.write_eof() if writer.can_write_eof() else None


async def _pipe(api: Client, cluster: str, host: str, port: int) -> None:
    source = stdin.chunks()

    async def read() -> bytes:
        return await anext(source, b"")

    async def write(data: bytes) -> None:
        await asyncio.to_thread(_write_out, data)

    await _connect(api, cluster, host, port, read, write, sys.stdout.buffer.close)


def _write_out(data: bytes) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


async def _connect(
    api: Client, cluster: str, host: str, port: int, read: Read, write: Write, finish: Callable[[], None]
) -> None:
    """Carry bytes both ways; each end may finish first, the other goes on."""
    path, query = f"clusters/{quoted(cluster)}/forward", [("host", host), ("port", str(port))]
    async with api.websocket(path, query) as socket, TaskOwner("forward") as tasks:
        tasks.spawn("upstream", _send(socket, read))
        try:
            async for message in socket:
                if isinstance(message, bytes):
                    await write(message)
                else:
                    finish()
        except ConnectionClosed as error:
            raise from_close(error.rcvd.code, error.rcvd.reason) if error.rcvd else from_close(0, "") from error


async def _send(socket: ClientConnection, read: Read) -> None:
    """Send what is read, then its end; a reader that broke ends both directions."""
    with contextlib.suppress(ConnectionClosed):
        try:
            while data := await read():
                await socket.send(data)
            await socket.send(EOF_MESSAGE)
        except OSError:
            await socket.close()
