"""What becomes of each answer in `kubernetes_load.py`: done, an error that says so, or a lie that is kept as text."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

HONEST = frozenset({429, 500, 502, 503, 504})
"""Statuses that say that something is wrong. A 401, 403 or 404 would tell a client something else, and falsely."""
STARTING = HONEST | {401, 403}
"""An API server that has just started refuses those whom it does not know yet, and says so to everybody."""


class Short(Exception):
    """An answer ended early, and said so: an error like others."""


class Wrong(Exception):
    """An answer that lied."""


@dataclass
class Tally:
    """What the workers met."""

    done: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    api_is_troubled = False
    """The API server itself is being struck: what it says itself then is no lie of ours."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def note(self, worker: str, error: Exception | None = None, what: str = "") -> None:
        with self._lock:
            if error is None:
                self.done[what or worker] += 1
            elif isinstance(error, Wrong):
                self.wrong.append(f"{time.strftime('%H:%M:%S')} {worker}: {error}")
                print(f"WRONG {self.wrong[-1]}", flush=True)
            else:
                self.errors[f"{worker}: {_words(error)}"] += 1

    def honest(self) -> frozenset[int]:
        return STARTING if self.api_is_troubled else HONEST

    def __str__(self) -> str:
        return json.dumps({"done": self.done, "errors": self.errors, "wrong": self.wrong}, indent=1)


def _words(error: Exception) -> str:
    return f"{type(error).__name__} {error}"[:90]


def checksum(items: list[dict[str, Any]]) -> str:
    return hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()


def cut_log(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def whole_lines(answer: httpx.Response) -> Iterator[bytes]:
    """Lines as they come. Raises: Wrong: the answer ended as if whole, within a line."""
    held = b""
    for piece in answer.iter_raw():
        *lines, held = (held + piece).split(b"\n")
        yield from lines
    if held:
        raise Wrong(f"an answer ended within a line: {held[-80:]!r}")
