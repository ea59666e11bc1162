"""One command twice, straight to the API server and through Towline: what it printed, how it ended, what was audited.

Both act as the same identity: straight by the administrator's token and kubectl's own impersonation, through Towline
by the user's token. What may differ is named: `NORMALISATIONS` holds every rule, and a command says which it needs.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.kubectl import Client

AUDIT_TIMEOUT = 10.0
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_AGE = re.compile(r"(?<![\w.-])(?:\d+[smhdy]){1,3}(?![\w.-])|<invalid>")
_ISO, _MAIL = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z?", r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} \+\d{4}"
_TIME = re.compile(f"{_ISO}|{_MAIL}")
_VERSION = re.compile(r'(resourceVersion"?: ?"?|Resource Version: +)\d+')
_SUFFIX = re.compile(r"\b(web|tool|batch|each)-([0-9a-f]{6,10}-)?[a-z0-9]{5}\b")
_ADDRESS = re.compile(r"\b10\.(?:96|244)\.\d+\.\d+\b")
_CONTAINER = re.compile(r"\b[0-9a-f]{64}\b")
_SERVER = re.compile(r"https://127\.0\.0\.1:\d+(?:/k8s/clusters/[-a-z0-9]+)?")
_SELECTOR = re.compile(r"fieldSelector=([^&]*)")
_EXTRA = re.compile(r"^Extra: towline\.dev/.*\n", re.MULTILINE)
_WAITING = re.compile(r"^Waiting for .*\n", re.MULTILINE)
_HASH = re.compile(r"\b(pod-template-hash|controller-revision-hash)[=:] ?\"?[-0-9a-z]+")

NORMALISATIONS: dict[str, Callable[[str], str]] = {
    "ages": lambda text: _squeeze(_AGE.sub("AGE", text)),
    "times": lambda text: _TIME.sub("TIME", text),
    "uids": lambda text: _UUID.sub("UID", text),
    "resource versions": lambda text: _VERSION.sub(r"\1N", text),
    "generated names": lambda text: _squeeze(_HASH.sub(r"\1=HASH", _SUFFIX.sub(r"\1-GENERATED", text))),
    "addresses": lambda text: _squeeze(_ADDRESS.sub("ADDRESS", text)),
    "container ids": lambda text: _CONTAINER.sub("CONTAINER", text),
    "server": lambda text: _SERVER.sub("SERVER", text),
    "request ids": lambda text: _squeeze(_EXTRA.sub("", text)),
    "waiting": lambda text: _WAITING.sub("", text),
    "order": lambda text: "\n".join(sorted(text.splitlines())),
}


def _squeeze(text: str) -> str:
    """Columns are as wide as their widest cell, and cells were replaced."""
    return re.sub(r"(?m) {2,}|[ \t]+$", "  ", text)


@dataclass(frozen=True)
class Command:
    """One command: what may differ, what it reads, and whether the cluster hears of it at all."""

    words: tuple[str, ...]
    may_differ: tuple[str, ...] = ()
    stdin: str | None = None
    code: int = 0
    program: str = "kubectl"
    asks: bool = True
    """False: the client answers by itself."""
    only: str = ""
    """The one kubectl that this makes sense with."""

    @property
    def name(self) -> str:
        return " ".join(self.words)[:70]


@dataclass(frozen=True)
class Sides:
    """The same person on both ways, with the same kubectl."""

    direct: Client
    through: Client
    user: str
    groups: frozenset[str]
    agent: str

    @property
    def clients(self) -> tuple[Client, Client]:
        return self.direct, self.through


@dataclass
class AuditLog:
    """The cluster's audit log from a moment on."""

    path: Path
    offset: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_now(cls, path: Path) -> AuditLog:
        return cls(path, path.stat().st_size)

    def read(self) -> None:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole, mark, _ = file.read().rpartition(b"\n")
        self.offset += len(whole) + len(mark)
        self.events += [json.loads(line) for line in whole.splitlines()]

    def requests(self, account: str) -> list[dict[str, Any]]:
        """Wait until every request of an account is judged. Returns: one record for each, with its identity."""
        deadline = time.monotonic() + AUDIT_TIMEOUT
        while True:
            self.read()
            own = [event for event in self.events if event["user"].get("username") == account]
            judged = {event["auditID"]: event for event in own if event["stage"] != "RequestReceived"}
            if {event["auditID"] for event in own} == set(judged) and own:
                return list(judged.values())
            if time.monotonic() > deadline:
                return list(judged.values())
            time.sleep(0.02)


def compare(sides: Sides, command: Command, audit: Path, *, namespaces: tuple[str, str]) -> None:
    """Run a command on both ways and expect the same. Args: namespaces: what `NS` in the words means on each way."""
    log = AuditLog.from_now(audit)
    one, two = _run_both(sides, command, namespaces)
    rules = command.may_differ
    told = f"$ {command.program} {command.name} ({sides.through.version})"
    texts = [[_normal(text, rules, namespaces) for text in (done.stdout, done.stderr)] for done in (one, two)]
    assert texts[1] == texts[0], f"{told}\n--- straight\n{texts[0]}\n--- through Towline\n{texts[1]}"
    assert (one.returncode, two.returncode) == (command.code, command.code), f"{told}\n{one.stderr}"
    if command.asks:
        check_audit(sides, log, told)


def check_audit(sides: Sides, log: AuditLog, told: str) -> None:
    """Each request through Towline was made by the agent for this user, in these groups, and can be found again."""
    requests = [each for each in log.requests(sides.agent) if _is_for(each, sides.user)]
    assert requests, f"{told}: the cluster's audit log knows no request of {sides.user}"
    for each in requests:
        who, extra = each["impersonatedUser"], each["impersonatedUser"].get("extra", {})
        assert set(who["groups"]) == sides.groups | {"system:authenticated"}, (told, who)
        assert len(extra["towline.dev/request-id"]) == len(extra["towline.dev/session"]) == 1, (told, who)


def _is_for(event: dict[str, Any], user: str) -> bool:
    return bool(event.get("impersonatedUser", {}).get("username") == user)


def shape(log: AuditLog, account: str, user: str, namespace: str) -> Counter[tuple[str, str]]:
    """What a side asked for in a namespace: verbs and addresses, each as often as it was asked."""
    found = [each for each in log.requests(account) if _is_for(each, user) and namespace in each["requestURI"]]
    return Counter((event["verb"], _ordered(event["requestURI"].replace(namespace, "NS"))) for event in found)


def _ordered(address: str) -> str:
    # kubectl writes the terms of a selector in a different order each time.
    terms = _SELECTOR.search(address)
    return address.replace(terms[1], "%2C".join(sorted(terms[1].split("%2C")))) if terms else address


def _run_both(sides: Sides, command: Command, namespaces: tuple[str, str]) -> list[subprocess.CompletedProcess[str]]:
    # What shares a namespace only reads, and need not wait for the other.
    with ThreadPoolExecutor(2 if namespaces[0] == namespaces[1] else 1) as threads:
        return list(threads.map(lambda client, name: _run(client, command, name), sides.clients, namespaces))


def _run(client: Client, command: Command, namespace: str) -> subprocess.CompletedProcess[str]:
    words = [word.replace("NS", namespace) for word in command.words]
    stdin = None if command.stdin is None else command.stdin.replace("NS", namespace)
    argv = client.command(*words) if command.program == "kubectl" else [str(client.clients.helm), *words]
    return client.program(*argv, stdin=stdin, timeout=90)


# kubectl 1.32 may read the API server's first, empty message of a stream before it has made that stream; it says so.
_EARLY_MESSAGE = re.compile(r"^E\d{4} .* websocket\.go:\d+\] Unknown stream id \d, discarding message\n", re.MULTILINE)


def _normal(text: str, rules: tuple[str, ...], namespaces: tuple[str, str]) -> str:
    text = _EARLY_MESSAGE.sub("", text)
    if namespaces[0] != namespaces[1]:
        text = text.replace(namespaces[0], "NS").replace(namespaces[1], "NS")
    for rule in rules:
        text = NORMALISATIONS[rule](text)
    return text
