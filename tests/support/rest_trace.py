"""The recording of a real PipeOps REST agent of October 2025: its calls in order, as tests send them again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

TRACE = Path(__file__).parent.parent / "data" / "traces" / "pipeops-rest.jsonl"
AGENT = "agent-rest-1"
"""What the recorded agent calls itself."""
TOKEN = "rest-token"
"""What it presents."""


@dataclass(frozen=True)
class Call:
    """One request of the agent and what it was answered."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: str
    status: int
    reply: Any


@cache
def recorded() -> tuple[Call, ...]:
    """Every call of the recording."""
    lines = [json.loads(line) for line in TRACE.read_text().splitlines()]
    return tuple(
        Call(one["t"], one["method"], one["path"], one["headers"], one["body"], one["status"], one["reply"])
        for one in lines
        if one["dir"] == "rest"
    )


def bodies(ending: str) -> list[str]:
    """Return the bodies of the calls whose path ends like this."""
    return [one.body for one in recorded() if one.path.endswith(ending)]
