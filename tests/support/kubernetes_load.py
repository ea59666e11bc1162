"""Load on a cluster through Towline whose every answer is checked: an error is counted, a wrong answer is kept as text.

    with Load(user, direct, namespace, seed) as load:
        …
    assert load.tally.wrong == []

Lists are compared with direct answers, commands and logs by checksums. A writer counts each of its objects up by one,
straight at the API server, so that a watch that lost, doubled or reordered an event shows it. What strikes meanwhile is
`kubernetes_strikes.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import httpx
import websocket
from tests.support import kubernetes_objects as objects
from tests.support.exec_socket import STATUS, STDOUT, ExecSocket
from tests.support.kubernetes_stack import Stack, User
from tests.support.kubernetes_verdicts import Short, Tally, Wrong, checksum, cut_log, whole_lines
from tests.support.kubernetes_watchers import MOVING, Watcher, Writer
from tests.support.product import wait_for

STILL = 300
"""Objects that nobody changes."""
PAGE = 70
LOG_LINES = 20_000
STDIN_BYTES = 300_000
OUTPUT_LINES = 30_000
SILENCE = 20.0
"""Seconds without a byte after which a client gives a stream up; the writer and the ticking pod are never silent."""


class Load:
    """See the module. The namespace is made here and stays."""

    def __init__(self, user: User, cluster: str, namespace: str, seed: int) -> None:
        self.user, self.cluster, self.namespace = user, cluster, namespace
        self.stack: Stack = user.stack
        self.tally = Tally()
        self.stopped = threading.Event()
        self.ended_writing = threading.Event()
        self._draw = random.Random(seed)
        self._threads: list[threading.Thread] = []
        self.base = f"/api/v1/namespaces/{namespace}"

    # -- what is there -------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the objects and the pods."""
        direct = self.stack.direct()
        direct.run("create", "namespace", self.namespace)
        filler = "x" * 700
        still = [
            objects.named("ConfigMap", f"still-{n:03}", data={"n": str(n), "filler": filler}) for n in range(STILL)
        ]
        moving = [objects.named("ConfigMap", f"moving-{n:03}", data={"n": "0"}) for n in range(MOVING)]
        for each, part in ((still, "still"), (moving, "moving")):
            for one in each:
                one["metadata"]["labels"] = {"load": part}
        talker = f"i=0; while [ $i -lt {LOG_LINES} ]; do echo line $i of the log; i=$((i+1)); done; exec sleep 1000000"
        ticker = "i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done"
        pods = [
            objects.pod("shell"),
            objects.pod("talker", "sh", "-c", talker),
            objects.pod("ticker", "sh", "-c", ticker),
        ]
        objects.apply(direct, self.namespace, *still, *moving, *pods)
        objects.wait_for_pods(direct, self.namespace, "pod/shell", "pod/talker", "pod/ticker")
        self.still = checksum(self._direct_items("still"))
        self.log = cut_log("".join(f"line {n} of the log\n" for n in range(LOG_LINES)))
        with self.stack.direct_http() as client:
            path = f"{self.base}/pods/talker/log"
            wait_for(lambda: cut_log(client.get(path).text) == self.log, "the whole log to be written", 60)

    def _direct_items(self, part: str, **query: str) -> list[dict[str, Any]]:
        with self.stack.direct_http() as client:
            answer = client.get(f"{self.base}/configmaps", params={"labelSelector": f"load={part}", **query})
            answer.raise_for_status()
            items: list[dict[str, Any]] = answer.json()["items"]
            return items

    # -- running -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.stopped.clear()
        self.ended_writing.clear()
        self._threads = []
        self._start("writer", Writer(self).run)
        workers = [("list", self._list), ("list", self._pages), ("exact", self._exact), ("exec in", self._exec_in),
                   ("exec out", self._exec_out), ("log", self._read_log), ("follow", self._follow)]  # fmt: skip
        for name, step in workers:
            self._start(name, self._repeat(name, step))
        self.watchers = [Watcher(self, f"watch {n}") for n in range(3)]
        for watcher in self.watchers:
            self._start(watcher.name, self._repeat(watcher.name, watcher.step))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """End the writer, let the watches see all that was written, then end the rest."""
        self.ended_writing.set()
        if kind is None:
            self._settle()
        self.stopped.set()
        deadline = time.monotonic() + SILENCE + 40
        with self.stack.direct_http() as client:
            while waiting := [thread.name for thread in self._threads if thread.is_alive()]:
                assert time.monotonic() < deadline, f"{waiting} do not end"
                with contextlib.suppress(httpx.HTTPError):
                    Writer(self).count_up(client, "moving-000")  # whoever waits for an event sees that it is over
                time.sleep(0.1)

    def _settle(self) -> None:
        self._threads[0].join(60)
        wanted = {item["metadata"]["name"]: int(item["data"]["n"]) for item in self._direct_items("moving")}
        deadline = time.monotonic() + 60
        for watcher in self.watchers:
            while watcher.seen != wanted:
                missing = {
                    name: (watcher.seen.get(name), n) for name, n in wanted.items() if watcher.seen.get(name) != n
                }
                assert time.monotonic() < deadline, f"{watcher.name} never saw {missing}\n{self.tally}"
                time.sleep(0.1)

    def _start(self, name: str, target: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=target, name=name, daemon=True))
        self._threads[-1].start()

    def _repeat(self, name: str, step: Callable[[httpx.Client], None]) -> Callable[[], None]:
        draw = random.Random(self._draw.random())

        def run() -> None:
            with self.client() as client:
                while not self.stopped.is_set():
                    try:
                        step(client)
                        self.tally.note(name)
                    except (httpx.HTTPError, OSError, websocket.WebSocketException, Short, Wrong) as error:
                        self.tally.note(name, error)
                        self.stopped.wait(draw.uniform(0.05, 0.5))
                    self.stopped.wait(draw.uniform(0, 0.2))

        return run

    def client(self) -> httpx.Client:
        return self.stack.http(self.user.token, base_url=self.stack.server(self.cluster), timeout=SILENCE)

    def check(self, answer: httpx.Response, *also: int) -> None:
        """Raises: Short: it is an error that says so. Wrong: it says something that is not true."""
        if answer.status_code == 200:
            return
        answer.read()
        told = f"{answer.status_code} {' '.join(answer.text.split())[:300]}"
        honest = self.tally.honest()
        raise (Short if answer.status_code in honest or answer.status_code in also else Wrong)(told)

    # -- workers -------------------------------------------------------------------------------------

    def _list(self, client: httpx.Client) -> None:
        answer = client.get(f"{self.base}/configmaps", params={"labelSelector": "load=still"})
        self.check(answer)
        if checksum(answer.json()["items"]) != self.still:
            raise Wrong(f"a list of {len(answer.json()['items'])} of {STILL} is not what is there")

    def _pages(self, client: httpx.Client) -> None:
        items, query = [], {"labelSelector": "load=still", "limit": str(PAGE)}
        while True:
            answer = client.get(f"{self.base}/configmaps", params=query)
            self.check(answer, 410)
            page = answer.json()
            items += page["items"]
            if not (token := page["metadata"].get("continue")):
                break
            query["continue"] = token
        if checksum(items) != self.still:
            raise Wrong(f"pages of {len(items)} of {STILL} are not what is there")

    def _exact(self, client: httpx.Client) -> None:
        """What changes, compared with the direct answer of the same version."""
        answer = client.get(f"{self.base}/configmaps", params={"labelSelector": "load=moving"})
        self.check(answer)
        version = answer.json()["metadata"]["resourceVersion"]
        there = self._direct_items("moving", resourceVersion=version, resourceVersionMatch="Exact")
        if checksum(there) != checksum(answer.json()["items"]):
            raise Wrong(f"the list of version {version} is not the direct one")
        self.stopped.wait(0.3)

    def _exec_in(self, client: httpx.Client) -> None:
        data = self._draw.randbytes(STDIN_BYTES)
        with self._exec("sha256sum") as shell:
            shell.send(data)
            shell.end_input()
            told = self._output(shell).decode()
        if told != f"{hashlib.sha256(data).hexdigest()}  -\n":
            raise Wrong(f"a command that succeeded said {told!r}")

    def _exec_out(self, client: httpx.Client) -> None:
        with self._exec("seq", "1", str(OUTPUT_LINES)) as shell:
            told = self._output(shell)
        if told != "".join(f"{n}\n" for n in range(1, OUTPUT_LINES + 1)).encode():
            raise Wrong(f"a command that succeeded printed {len(told)} bytes, not what it prints")

    def _exec(self, *command: str) -> ExecSocket:
        try:
            return ExecSocket(self.user, self.namespace, "shell", *command, cluster=self.cluster, timeout=SILENCE)
        except websocket.WebSocketBadStatusException as error:
            raise (Short if error.status_code in self.tally.honest() else Wrong)(
                f"{error.status_code} for a shell"
            ) from error

    def _output(self, shell: ExecSocket) -> bytes:
        """Read until the command has succeeded."""
        held = b""
        while True:
            channel, data = shell.receive()
            if channel == STDOUT:
                held += data
            elif channel == STATUS and data:
                told = json.loads(data)
                if told.get("status") != "Success":
                    raise Short(str(told.get("message"))[:80])
                return held
            elif channel < 0:
                raise Short("a shell ended without a status")

    def _read_log(self, client: httpx.Client) -> None:
        answer = client.get(f"{self.base}/pods/talker/log")
        self.check(answer)
        if cut_log(answer.text) != self.log and not self.tally.api_is_troubled:
            with self.stack.direct_http() as direct:
                there = len(direct.get(f"{self.base}/pods/talker/log").text)
            raise Wrong(f"a log of {len(answer.text)} characters that ended as if whole; {there} straight")

    def _follow(self, client: httpx.Client) -> None:
        last = -1
        with client.stream("GET", f"{self.base}/pods/ticker/log", params={"follow": "1", "tailLines": "3"}) as answer:
            self.check(answer)
            for line in whole_lines(answer):
                number = int(line.split()[1])
                if last >= 0 and number != last + 1:
                    raise Wrong(f"tick {number} came after {last}")
                last = number
                if self.stopped.is_set():
                    return
        if not self.tally.api_is_troubled:
            raise Wrong(f"a followed log ended after tick {last} as if the pod had")
