"""Recordings of real PipeOps agents in tests/data/traces: one JSON object a line, in the order of time.

`dir` is `upgrade`, `agent`, `cp`, `rest` or `note`. Long messages were cut by the recorder; those are told apart here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "data" / "traces"


def recorded(name: str) -> Iterator[dict[str, Any]]:
    """Every line of a recording."""
    for line in (FOLDER / f"{name}.jsonl").read_text().splitlines():
        yield json.loads(line)


def agent_texts(name: str) -> Iterator[bytes]:
    """Every whole text message of the agent's side, word for word."""
    for entry in recorded(name):
        if entry["dir"] == "agent" and entry.get("frame") == "text" and entry["raw"].endswith("\n"):
            yield entry["raw"].encode()


def server_messages(name: str) -> Iterator[dict[str, Any]]:
    """Every whole text message of the control plane's side."""
    for entry in recorded(name):
        if entry["dir"] == "cp" and "msg" in entry:
            yield entry["msg"]
