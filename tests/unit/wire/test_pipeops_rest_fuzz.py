"""Recorded bodies and messages, changed at random: the decoders refuse in one way, or read what they can bound."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import pytest

from towline.wire import instadeploy, pipeops_rest
from towline.wire.pipeops_rest import BadBody, Commands, Heartbeat, Registration, Result, Status

TRACES = Path(__file__).parents[2] / "data" / "traces"
SHORT_ROUNDS = 2_000
SEED = int(os.environ.get("TOWLINE_SOAK_SEED", "20261"))
SOAK_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "1800"))
KINDS = (Registration, Heartbeat, Status, Result, Commands)


def recorded() -> list[bytes]:
    lines = [
        json.loads(line)
        for name in ("pipeops-rest", "instadeploy")
        for line in (TRACES / f"{name}.jsonl").read_text().splitlines()
    ]
    texts = [line.get("body") or line.get("raw") or json.dumps(line.get("msg", {})) for line in lines]
    return [text.encode() for text in texts]


def changed(draw: random.Random, samples: list[bytes]) -> bytes:
    """Cut, repeat, replace and join what was recorded."""
    data = bytearray(draw.choice(samples))
    for _ in range(draw.randint(1, 8)):
        at = draw.randrange(len(data) + 1)
        match draw.randrange(5):
            case 0:
                del data[at : at + draw.randint(1, 40)]
            case 1:
                data[at:at] = draw.randbytes(draw.randint(1, 8))
            case 2:
                data[at:at] = draw.choice((b"null", b"1e999", b"[]", b"{}", b'"\\ud800"', b"-0", b"[" * 2000, b'"'))
            case 3:
                data[at : at + 1] = bytes((draw.randrange(256),))
            case _:
                data[at:at] = draw.choice(samples)[:200]
    return bytes(data)


def one_round(draw: random.Random, samples: list[bytes]) -> None:
    data = changed(draw, samples)
    for kind in KINDS:
        try:
            body = pipeops_rest.decode(kind, data)
        except BadBody:
            continue
        pipeops_rest.decode(kind, pipeops_rest.encode(body), limit=10 * len(data) + 10_000)
    for decode in (instadeploy.decode_command, instadeploy.decode_response):
        try:
            decode(data)
        except instadeploy.BadMessage:
            continue


def test_changed_messages_are_read_or_refused() -> None:
    draw, samples = random.Random(SEED), recorded()
    for _ in range(SHORT_ROUNDS):
        one_round(draw, samples)


@pytest.mark.soak
def test_changed_messages_are_read_or_refused_for_half_an_hour() -> None:
    seed, samples, until = time.time_ns(), recorded(), time.monotonic() + SOAK_SECONDS
    print(f"seed {seed}")
    draw, rounds = random.Random(seed), 0
    while time.monotonic() < until:
        one_round(draw, samples)
        rounds += 1
    print(f"{rounds} inputs")
