"""Private TCP through a cluster as people use it: forward, ssh to a real sshd, and the measured link."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.support.commands import Going, answer, succeed
from tests.support.product import Product, wait_for
from tests.testbed import processes, sshd
from tests.testbed.servers import Server

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]


@contextlib.contextmanager
def digester() -> Iterator[int]:
    """A TCP server that reads to the end of input and then answers with its hash: it needs a half-closed connection."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection, connection.makefile("rb") as reader:
                    connection.sendall(hashlib.file_digest(reader, "sha256").hexdigest().encode())

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def whole(port: int, data: bytes) -> bytes:
    """Send everything, finish our direction, and read to the end."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_forward_carries_bytes_both_ways_and_each_way_ends_alone(shop: Product) -> None:
    data, local = os.urandom(5_000_000), processes.free_port()
    with digester() as port, Going(shop, "towline", "forward", "here", f"127.0.0.1:{port}", str(local)) as forward:
        forward.says(f"127.0.0.1:{local} leads to 127.0.0.1:{port}")
        assert whole(local, data) == hashlib.sha256(data).hexdigest().encode()
        assert whole(local, b"") == hashlib.sha256(b"").hexdigest().encode()
        assert forward.interrupt() == 0
    opened = [event for event in answer(shop, "towline audit --action forward.open") if event["detail"]["port"] == port]
    assert [(event["actor"]["name"], event["result"]) for event in opened] == [("ada", "done")] * 2


def test_a_forward_to_what_the_host_forbids_says_so_for_each_connection(shop: Product) -> None:
    local = processes.free_port()
    with Going(shop, "towline", "forward", "here", "192.0.2.78:5432", str(local)) as forward:
        forward.says("leads to")
        assert whole(local, b"hello") == b""
        forward.says("the policy of this host does not allow 192.0.2.78:5432")
        assert forward.interrupt() == 0
    assert [
        event for event in answer(shop, "towline audit --action forward.open --result refused")
        if event["detail"]["host"] == "192.0.2.78"
    ]  # fmt: skip


def test_a_port_that_is_taken_here_is_one_clear_line(shop: Product) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = shop.run(f"towline forward here 127.0.0.1:1 {port}")
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_ssh_reaches_the_hosts_own_server(shop: Product, start_sshd: Callable[..., Server]) -> None:
    server = start_sshd()
    proxy = f"{shutil.which('towline', path=shop.environment['PATH'])} ssh %h 127.0.0.1:{server.port}"
    argv = ["ssh", *sshd.client_options(server), "-o", f"ProxyCommand={proxy}", "here"]
    data = os.urandom(2_000_000)
    done = subprocess.run(
        [*argv, "sha256sum; exit 3"], input=data, capture_output=True, env=shop.environment, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr.decode()
    assert done.stdout.decode().split()[0] == hashlib.sha256(data).hexdigest()
    ended = wait_for(
        lambda: [e for e in answer(shop, "towline audit --action forward.end") if e["detail"]["port"] == server.port],
        "the end of the connection on record",
    )
    assert ended[0]["detail"]["up_bytes"] > len(data)


def test_the_link_is_measured(shop: Product) -> None:
    measured = answer(shop, "towline link test here --seconds 0.5")
    assert measured["up_bytes_per_second"] > 1e6
    assert measured["down_bytes_per_second"] > 1e6
    assert "MB/s" in succeed(shop, "towline link test here --seconds 0.5")
