"""Unit tests cannot reach a network; event loops still work."""

import asyncio
import socket

import pytest
import pytest_socket


@pytest.mark.filterwarnings("ignore:A test tried to use socket.socket")
def test_unit_test_gets_no_internet_socket() -> None:
    with pytest.raises(pytest_socket.SocketBlockedError):
        socket.socket(socket.AF_INET, socket.SOCK_STREAM)


async def test_event_loop_runs_without_sockets() -> None:
    await asyncio.sleep(0)
    assert asyncio.get_running_loop().is_running()
