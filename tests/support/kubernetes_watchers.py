"""Objects that are counted up one by one, straight at the API server, and watches through Towline that follow them.

Each success of the writer is exactly one event, so a watch that lost, doubled or reordered one meets a gap.
"""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import httpx
from tests.support.kubernetes_verdicts import Short, Wrong, whole_lines

if TYPE_CHECKING:
    from tests.support.kubernetes_load import Load

MOVING = 40
WRITES_PER_SECOND = 25.0


class Writer:
    """Counts up until the load says that it is enough."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.path = f"{load.base}/configmaps"

    def run(self) -> None:
        load, ended = self.load, self.load.ended_writing
        draw = random.Random(1)
        with load.stack.direct_http() as client:
            while not ended.wait(1 / WRITES_PER_SECOND):
                with contextlib.suppress(httpx.HTTPError, KeyError):
                    self.count_up(client, f"moving-{draw.randrange(MOVING):03}")
                    load.tally.note("write")

    def count_up(self, client: httpx.Client, name: str) -> None:
        """Read, then write if nothing came between: an attempt of unknown end is seen by the next."""
        got = client.get(f"{self.path}/{name}", timeout=10)
        got.raise_for_status()
        found = got.json()
        found["data"]["n"] = str(int(found["data"]["n"]) + 1)
        client.put(f"{self.path}/{name}", json=found, timeout=10).raise_for_status()


class Watcher:
    """Follows the objects that are counted up, by resourceVersion across every reconnect."""

    def __init__(self, load: Load, name: str) -> None:
        self.load, self.name = load, name
        self.seen: dict[str, int] = {}
        self.version = ""
        self._draw = random.Random(name)

    def step(self, client: httpx.Client) -> None:
        if not self.version:
            self._list(client)
        query = {
            "labelSelector": "load=moving", "watch": "1", "allowWatchBookmarks": "1", "resourceVersion": self.version,
            "timeoutSeconds": str(self._draw.randint(3, 20)),
        }  # fmt: skip
        with client.stream("GET", f"{self.load.base}/configmaps", params=query) as answer:
            if answer.status_code == 410:
                self.version = ""
            self.load.check(answer, 410)
            for line in whole_lines(answer):
                self._take(json.loads(line))
                if self.load.stopped.is_set() or not self.version:
                    return

    def _list(self, client: httpx.Client) -> None:
        answer = client.get(f"{self.load.base}/configmaps", params={"labelSelector": "load=moving"})
        self.load.check(answer)
        found = answer.json()
        now = {item["metadata"]["name"]: int(item["data"]["n"]) for item in found["items"]}
        older = {name: (self.seen[name], n) for name, n in now.items() if self.seen.get(name, 0) > n}
        if older or len(now) != MOVING:
            raise Wrong(f"a list went back in time: {older}")
        self.seen, self.version = now, found["metadata"]["resourceVersion"]
        self.load.tally.note(self.name, what="lists of watches")

    def _take(self, event: dict[str, Any]) -> None:
        kind, found = event["type"], event["object"]
        if kind == "ERROR":
            self.version = "" if found.get("code") == 410 else self.version
            raise Short(f"{found.get('code')} in a watch: {found.get('message')}")
        if kind != "BOOKMARK":
            name, number = found["metadata"]["name"], int(found["data"]["n"])
            if kind != "MODIFIED" or number != self.seen[name] + 1:
                told = f"{kind} {name} {number} after {self.seen.get(name)}, from {self.version}"
                self.version = ""
                raise Wrong(told)
            self.seen[name] = number
            self.load.tally.note(self.name, what="events")
        self.version = found["metadata"]["resourceVersion"]
