"""Fuzzing of the PipeOps codec from recordings: nothing but its own errors comes out, whatever is done to the bytes."""

import contextlib
import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.pipeops_fuzz import BODIES, FRAMES, TEXTS, mutated

from towline.wire import lenient, pipeops, pipeops_frames, pipeops_routes
from towline.wire import pipeops_messages as messages

SOAK_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "1800"))
SEED = 20261122
SHORT_ROUNDS = 3_000
READERS: list[lenient.Reader[Any]] = [
    pipeops_routes.REGISTER_ROUTE, pipeops_routes.SYNC_INGRESSES, pipeops_routes.SYNC_TUNNELS,
]  # fmt: skip


def read_text(data: bytes) -> None:
    for is_agent in (False, True):
        with contextlib.suppress(pipeops.BadMessage):
            message = pipeops.decode(data, is_agent=is_agent).message
            if not isinstance(message, messages.Unknown):
                assert pipeops.decode(pipeops.encode(message)).message == message


def read_frame(data: bytes) -> None:
    for read in (pipeops_frames.decode_response, pipeops_frames.decode_request, pipeops_frames.split_stream_header):
        with contextlib.suppress(pipeops_frames.BadFrame):
            read(data)
    with contextlib.suppress(pipeops_frames.BadFrame):
        pipeops_frames.inflate(data)
    pipeops_frames.split_websocket(data)


def read_body(data: bytes) -> None:
    for reader in READERS:
        with contextlib.suppress(lenient.Unfit):
            reader.read(data)


KINDS: list[tuple[list[bytes], Callable[[bytes], None]]] = [
    (TEXTS, read_text), (FRAMES, read_frame), (BODIES, read_body),
]  # fmt: skip


def fuzz(generator: random.Random) -> None:
    seeds, read = generator.choice(KINDS)
    read(mutated(generator.choice(seeds), generator))


def test_recordings_with_mistakes_in_them_are_read_or_refused() -> None:
    generator = random.Random(SEED)
    for _ in range(SHORT_ROUNDS):
        fuzz(generator)


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_half_an_hour_of_mistakes_is_read_or_refused() -> None:
    seed, rounds, until = time.time_ns(), 0, time.monotonic() + SOAK_SECONDS
    generator = random.Random(seed)
    print(f"seed {seed}")
    while time.monotonic() < until:
        fuzz(generator)
        rounds += 1
    print(f"{rounds} inputs")
