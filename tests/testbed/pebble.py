"""Pebble, an ACME authority for tests, and its challenge test server as the DNS that it asks.

Both are compiled on first use and kept by content. `ensure` starts one pair for everybody, which `down` ends;
`start` gives a test a pair of its own, whose ports of validation are the test's and whose faults hurt nobody else.
"""

import json
import shutil
import ssl
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme

from tests.testbed import golang, paths, processes, servers

PART = "pebble"
READY_TIMEOUT = 20.0
PACKAGE = "github.com/letsencrypt/pebble/v2/cmd"
NOTE = "authority.json"
# Answers at once and never rejects a nonce: what a test wants unless it is about that.
CALM = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}


def build() -> tuple[Path, Path]:
    """Compile both. Returns: the authority's program and the challenge server's."""
    source = paths.SOURCE / "pebble"
    return (
        golang.build("pebble", source, f"{PACKAGE}/pebble"),
        golang.build("pebble-challtestsrv", source, f"{PACKAGE}/pebble-challtestsrv"),
    )


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, and where the authority looks for answers to its challenges."""

    acme: int
    management: int
    dns: int
    records: int
    http: int
    tls: int


@dataclass(slots=True)
class Authority:
    """A running pair. Its own HTTPS is certified by `ca_file`, which is another authority than the one it is."""

    folder: Path
    ports: Ports
    running: list[servers.Server] = field(default_factory=list)
    name_server: str = ""
    """Address of another DNS server to ask; the challenge server's when empty."""

    def __str__(self) -> str:
        return f"{self.directory}, looks at ports {self.ports.http} and {self.ports.tls}"

    @property
    def directory(self) -> str:
        """The URL that clients begin with."""
        return f"https://127.0.0.1:{self.ports.acme}/dir"

    @property
    def ca_file(self) -> Path:
        """Certificate to check the authority's own HTTPS with."""
        return self.folder / "ca.pem"

    @property
    def dns(self) -> str:
        """Address of the DNS server that it asks; every name is 127.0.0.1 there unless told otherwise."""
        return self.name_server or f"127.0.0.1:{self.ports.dns}"

    @property
    def log(self) -> str:
        return (self.folder / "pebble.log").read_text()

    def root(self) -> str:
        """The certificate (PEM) that clients of what it issued have to trust."""
        return self._managed("roots/0").decode()

    def suggest_renewal(self, certificate: str, window: dict[str, Any] | str) -> None:
        """Set what ARI answers for a certificate (PEM); a text instead of a window makes it answer nonsense."""
        answer = window if isinstance(window, str) else json.dumps(window)
        body = json.dumps({"certificate": certificate, "ariResponse": answer})
        self._managed("set-renewal-info/", body.encode())

    def set_record(self, what: str, **fields: Any) -> None:
        """Change a record, e.g. `set_record("add-a", host="a.test", addresses=["192.0.2.1"])`."""
        body = json.dumps(fields).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports.records}/{what}", body, timeout=READY_TIMEOUT):
            return

    def orders(self, name: str = "") -> int:
        """How many orders it was asked for: of everybody, or those whose log lines name a host."""
        lines = [line for line in self.log.splitlines() if "There are now" in line and "orders in the db" in line]
        return len([line for line in lines if name in line])

    def stop(self) -> None:
        """End both."""
        for server in reversed(self.running):
            server.stop()

    def _managed(self, path: str, body: bytes | None = None) -> bytes:
        trust = ssl.create_default_context(cafile=str(self.ca_file))
        url = f"https://127.0.0.1:{self.ports.management}/{path}"
        with urllib.request.urlopen(url, body, context=trust, timeout=READY_TIMEOUT) as answer:
            return bytes(answer.read())


def start(
    folder: Path,
    *,
    http: int = 0,
    tls: int = 0,
    name_server: str = "",
    environment: dict[str, str] | None = None,
    **options: Any,
) -> Authority:
    """Start a pair and wait until it answers.

    Args: http, tls: ports at which it looks for answers; free ones when not given. name_server: DNS server to ask,
        `ADDRESS:PORT`; the challenge server when empty. environment: Pebble's own knobs, over `CALM`.
        options: of its configuration, like `externalAccountBindingRequired=True`.
    """
    authority = _prepared(folder, http, tls, options)
    authority.name_server = name_server
    program, challenges = build()
    ports = authority.ports
    off = [word for name in ("http01", "https01", "tlsalpn01") for word in (f"-{name}", "")]
    listen = ["-dnsserver", f"127.0.0.1:{ports.dns}", "-management", f"127.0.0.1:{ports.records}", "-defaultIPv6", ""]
    knobs = [f"{name}={value}" for name, value in {**CALM, **(environment or {})}.items()]
    env = shutil.which("env") or "/usr/bin/env"
    run = [env, *knobs, program, "-config", folder / "pebble.json", "-strict=true", "-dnsserver", authority.dns]
    authority.running = [
        servers.Server("pebble-challtestsrv", [challenges, *off, *listen], folder, ports.records),
        servers.Server("pebble", run, folder, ports.acme),
    ]
    try:
        for server in authority.running:
            server.start()
    except processes.DidNotStart:
        authority.stop()
        raise
    return authority


def _prepared(folder: Path, http: int, tls: int, options: dict[str, Any]) -> Authority:
    acme, management, dns, records = (processes.free_port() for _ in range(4))
    ports = Ports(acme, management, dns, records, http or processes.free_port(), tls or processes.free_port())
    authority = Authority(folder, ports)
    ca = trustme.CA()
    own = ca.issue_cert("127.0.0.1", "localhost")
    ca.cert_pem.write_to_path(str(authority.ca_file))
    own.private_key_pem.write_to_path(str(folder / "own.key"))
    own.cert_chain_pems[0].write_to_path(str(folder / "own.pem"))
    configuration = {
        "listenAddress": f"127.0.0.1:{ports.acme}",
        "managementListenAddress": f"127.0.0.1:{ports.management}",
        "certificate": str(folder / "own.pem"),
        "privateKey": str(folder / "own.key"),
        "httpPort": ports.http,
        "tlsPort": ports.tls,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "keyAlgorithm": "ecdsa",
        "retryAfter": {"authz": 1, "order": 1},
        **options,
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": configuration}))
    return authority


# -- the one for everybody -----------------------------------------------------------------------


def ensure() -> Authority:
    """The shared pair, started first when it is not there. Raises: Missing: it cannot be compiled."""
    build()
    folder = paths.state(PART)
    found = running()
    if found is not None:
        return found
    down()
    authority = start(folder)
    for server in authority.running:
        assert server.process is not None
        processes.remember(folder / f"{server.name}.pid", processes.detach(server.process))
    (folder / NOTE).write_text(json.dumps({name: getattr(authority.ports, name) for name in Ports.__slots__}))
    return authority


def running() -> Authority | None:
    """The shared pair, if an earlier run started it and it still runs."""
    folder = paths.state(PART)
    alive = [processes.recall(folder / f"{name}.pid") for name in ("pebble", "pebble-challtestsrv")]
    note = folder / NOTE
    return Authority(folder, Ports(**json.loads(note.read_text()))) if all(alive) and note.exists() else None


def status() -> str:
    """One line for people."""
    found = running()
    return str(found) if found else "not running"


def down() -> None:
    """End the shared pair."""
    folder = paths.state(PART)
    for name in ("pebble", "pebble-challtestsrv"):
        pid = processes.recall(folder / f"{name}.pid")
        if pid is not None:
            processes.end(pid)
    (folder / NOTE).unlink(missing_ok=True)
