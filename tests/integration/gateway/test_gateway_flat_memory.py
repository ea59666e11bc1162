"""The server's memory under stalled readers, idle WebSockets and a long upload, measured from outside its process.

The large forms (1,000 of each, 10 GiB) are `make soak`'s; `python -m benchmarks.gateway_memory` prints the figures.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from benchmarks.gateway_memory import WINDOW_BYTES, Bed, bed, stalled, upload, websockets

MIB = 2**20


@pytest.fixture(scope="module")
def made() -> Iterator[Bed]:
    with bed() as found:
        yield found


def check_readers(made: Bed, count: int) -> None:
    before, most, after = stalled(made, count)
    assert most - before < count * WINDOW_BYTES + 8 * MIB
    assert after - before < 32 * MIB
    again = stalled(made, count)[1]
    assert again - most < 16 * MIB


def check_websockets(made: Bed, count: int) -> None:
    before, most, after = websockets(made, count)
    assert most - before < count * 32 * 1024 + 8 * MIB
    assert after - before < 16 * MIB


def check_upload(made: Bed, size: int) -> None:
    before, peak, _ = upload(made, size)
    assert peak - before < 16 * MIB


def test_stalled_readers_cost_a_window_each_and_give_it_back(made: Bed) -> None:
    check_readers(made, 100)


def test_idle_websockets_cost_next_to_nothing(made: Bed) -> None:
    check_websockets(made, 100)


def test_upload_leaves_memory_flat(made: Bed) -> None:
    check_upload(made, 200 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_thousand_stalled_readers_cost_a_window_each_and_give_it_back(made: Bed) -> None:
    check_readers(made, 1000)


@pytest.mark.soak
def test_thousand_idle_websockets_cost_next_to_nothing(made: Bed) -> None:
    check_websockets(made, 1000)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_upload_of_ten_gibibytes_leaves_memory_flat(made: Bed) -> None:
    check_upload(made, 10 * 1024 * MIB)
