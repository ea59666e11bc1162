"""Unit tests cannot reach a network; event loops still work."""

import asyncio
import socket
import threading

import pytest
import pytest_socket


@pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")
def test_unit_test_gets_no_internet_socket() -> None:
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


@pytest.mark.filterwarnings("ignore:A test tried to use socket.getaddrinfo")
def test_unit_test_looks_no_name_up() -> None:
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.create_connection(("127.0.0.1", 9))


async def test_event_loop_runs_without_sockets() -> None:
    await asyncio.sleep(0)
    assert asyncio.get_running_loop().is_running()


def test_threads_of_servers_keep_theirs() -> None:
    def serve() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            made.append(server.getsockname()[1])

    made: list[int] = []
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert made
