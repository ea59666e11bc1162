"""A PipeOps control plane that talks nonsense, by a seed: our agent answers the next ping, and nothing in it fails."""

from __future__ import annotations

import os
import random
import time

import pytest
from structlog.testing import capture_logs
from tests.support.older_agent import OlderAgent
from tests.support.older_planes import PlaneLine
from tests.support.pipeops_fuzz import FRAMES, TEXTS, mutated
from tests.support.spoken_fixtures import agent, api, names, plane
from tests.support.spoken_pipeops import PipeOpsPlane

SEED = int(os.environ.get("TOWLINE_FUZZ_SEED", "20261122"))
SOAK_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "1800"))
SHORT_ROUNDS = 8
MESSAGES = 20
"""Between two pings."""
FAILED = "message failed"
HELLO = b'{"type":"gateway_hello","payload":{"use_yamux":true}}'


__all__ = ["agent", "api", "names", "plane"]


def nonsense(generator: random.Random) -> str | bytes:
    """One message of either kind."""
    if generator.random() < 0.2:
        return mutated(generator.choice(FRAMES), generator)
    text = HELLO if generator.random() < 0.1 else generator.choice(TEXTS)
    return mutated(text, generator).decode(errors="replace") if generator.random() < 0.8 else text.decode()


async def round_of(line: PlaneLine, generator: random.Random) -> None:
    """Talk for a while, and see that the agent still listens. Raises: ConnectionError: it has hung up."""
    try:
        for _ in range(MESSAGES):
            await line.send(nonsense(generator))
    except Exception as error:
        raise ConnectionError("the agent hung up") from error
    asked = str(generator.random())
    await line.send({"type": "ping", "request_id": asked, "payload": {}})
    await answer_to(line, asked)


async def answer_to(line: PlaneLine, asked: str) -> None:
    while (message := await line.messages.get()) is not None:
        if isinstance(message, str) and asked in message:
            return
    raise ConnectionError("the agent has gone")


async def torment(plane: PipeOpsPlane, generator: random.Random) -> None:
    line = await plane.registered()
    try:
        for _ in range(generator.randrange(1, 10)):
            await round_of(line, generator)
    except ConnectionError:
        return  # it may end a connection that means nothing, and comes back
    await line.close()


async def test_nonsense_costs_the_agent_nothing(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    generator = random.Random(SEED)
    with capture_logs() as logs:
        for _ in range(SHORT_ROUNDS):
            await torment(plane, generator)
    assert "message not understood" in [one["event"] for one in logs]
    assert [one for one in logs if one["event"] == FAILED] == []


@pytest.mark.soak
async def test_half_an_hour_of_nonsense_costs_the_agent_nothing(plane: PipeOpsPlane, agent: OlderAgent) -> None:
    seed, until, rounds = time.time_ns(), time.monotonic() + SOAK_SECONDS, 0
    generator = random.Random(seed)
    while time.monotonic() < until:
        with capture_logs() as logs:
            await torment(plane, generator)
        assert [one for one in logs if one["event"] == FAILED] == [], f"seed {seed}, round {rounds}"
        rounds += 1
    print(f"{rounds} connections from seed {seed}")
