"""Anything at all, sent where REST agents talk: a clear answer each time, the agent stays, nothing is left behind.

The short form runs with all tests; `make soak` goes on for half an hour. `TOWLINE_FUZZ_SEED` gives a run back.
"""

from __future__ import annotations

import json
import os
import random
import time
from typing import Any

import pytest
from tests.support.control_app import ControlApp
from tests.support.rest_agents import RestAgent, agents_of, rest_agent
from tests.support.rest_trace import recorded

from towline.control.protocols.pipeops import rest_agents

SEED = int(os.environ.get("TOWLINE_FUZZ_SEED", "20261122"))
SHORT, LONG = 400, 1800.0
"""Requests of the short form, and seconds of the long one."""
GOOD, BAD = frozenset({200}), frozenset({400, 401, 404, 405, 413, 422, 429})
SCRAPS: tuple[Any, ...] = (
    None, True, -1, 0, 2**63, 1e308, "", "x" * 300, "\x00", "\ud800", [], {}, [[]], {"a": {"b": []}},
    "2026-13-99T00:00:00Z",
)  # fmt: skip


class Fuzzer:
    """Spoils recorded calls."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.calls = recorded()

    def body(self) -> bytes:
        """A recorded body, spoiled in its values, its keys or its bytes."""
        text = self.draw.choice(self.calls).body
        how = self.draw.randrange(4)
        if how == 0:
            value = json.loads(text)
            for _ in range(self.draw.randint(1, 4)):
                value = self.spoiled(value)
            return json.dumps(value).encode()
        data = bytearray(text.encode())
        if how == 1:
            del data[self.draw.randrange(len(data)) :]
        elif how == 2:
            for _ in range(self.draw.randint(1, 9)):
                data[self.draw.randrange(len(data))] = self.draw.randrange(256)
        return bytes(data) * (3 if how == 3 else 1)

    def spoiled(self, value: Any) -> Any:
        """Replace something within a value."""
        if isinstance(value, dict) and value and self.draw.random() < 0.8:
            key = self.draw.choice(sorted(value))
            return value | {key: self.spoiled(value[key])}
        if isinstance(value, list) and value and self.draw.random() < 0.8:
            place = self.draw.randrange(len(value))
            return [*value[:place], self.spoiled(value[place]), *value[place + 1 :]]
        return self.draw.choice(SCRAPS)

    def path(self, agent: RestAgent) -> str:
        name = self.draw.choice((agent.id, agent.id, agent.id, "agent-9", "%2e%2e", "a" * 300, "%00"))
        ending = self.draw.choice(("heartbeat", "status", "commands", "commands/job_1/result", "commands//result"))
        return self.draw.choice((f"/api/v1/agents/{name}/{ending}", "/api/v1/agents/register"))


async def _one(fuzzer: Fuzzer, agent: RestAgent) -> None:
    method = fuzzer.draw.choice(("POST", "POST", "POST", "GET", "PUT"))
    headers = {"content-type": fuzzer.draw.choice(("application/json", "text/plain", ""))}
    answer = await agent.client.request(method, fuzzer.path(agent), content=fuzzer.body(), headers=headers)
    assert answer.status_code in GOOD | BAD, (answer.status_code, answer.text)
    if answer.status_code in BAD:
        assert answer.json()["error"]["message"]


async def _stays(app: ControlApp, agent: RestAgent) -> None:
    """The agent is there after all of that; its own words still count."""
    assert (await agent.register()).status_code == 200
    assert (await agent.beat()).status_code == 200
    assert len(app.control.fleet.links) == 1
    assert not agents_of(app)._entering


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured here is not how fast an agent may ask."""
    monkeypatch.setattr(rest_agents, "BURST", 10_000_000)


async def test_whatever_is_sent_the_answer_is_clear_and_the_agent_stays(small_app: ControlApp) -> None:
    agent, fuzzer = await rest_agent(small_app), Fuzzer(SEED)
    for _ in range(SHORT):
        await _one(fuzzer, agent)
    await _stays(small_app, agent)


@pytest.mark.soak
async def test_whatever_is_sent_for_half_an_hour(small_app: ControlApp) -> None:
    seed, rounds, end = time.time_ns(), 0, time.monotonic() + LONG
    agent, fuzzer = await rest_agent(small_app), Fuzzer(seed)
    print(f"seed {seed}")
    while time.monotonic() < end:
        await _one(fuzzer, agent)
        rounds += 1
    await _stays(small_app, agent)
    print(f"{rounds} requests")
