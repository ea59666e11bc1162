"""A control plane with a gateway on the ports that a Pebble looks at, and agents of a real cluster and a real engine.

with GatewayStack(folder, cluster, clients, authority) as stack:
    stack.prove("shop.test")
    stack.answer("www.shop.test").status
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.support.product import wait_for
from tests.testbed import pebble
from tests.testbed.kubectl import Clients
from tests.testbed.kubernetes.cluster import Cluster

DOCKER = "docker-1"
"""Cluster of the Docker host."""
GATEWAY_DOMAIN = "apps.towline-story.test"
GRACE = 2.0
"""Seconds that a route stays when its source is out of sight; a minute outside of tests."""
OWN_NAME = "127.0.0.1"
"""An address is not sent as a server name, so that any Host may follow."""
TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes


class GatewayStack(Stack):
    """See the module."""

    def __init__(self, folder: Path, cluster: Cluster, clients: Clients, authority: pebble.Authority) -> None:
        super().__init__(folder, cluster, clients, port=authority.ports.tls, namespace="gw-story-agent")
        self.pebble = authority
        self.settings = {
            "GATEWAY_DOMAIN": GATEWAY_DOMAIN,
            "GATEWAY_LISTEN_HTTP": f"127.0.0.1:{authority.ports.http}",
            "GATEWAY_SOURCE_GRACE": str(GRACE),
            "ACME_DIRECTORY": authority.directory,
            "ACME_CA_FILE": str(authority.ca_file),
            "ACME_HTTP_PORT": str(authority.ports.http),
            "ACME_TLS_PORT": str(authority.ports.tls),
            "DNS_RESOLVERS": authority.dns,
        }

    def __enter__(self) -> Self:
        super().__enter__()
        try:
            self.join("docker", DOCKER)
            self._start("docker", {"TOWLINE_AGENT_KUBERNETES": "off"}, *self._agent_words("docker"))
            for cluster, source in ((CLUSTER, "ingress"), (DOCKER, "compose")):
                wait_for(lambda: source in self.sources(cluster), f"the first list of {cluster}", TIMEOUT)  # noqa: B023
        except BaseException:
            self.__exit__()
            raise
        return self

    def _agent_words(self, name: str) -> tuple[str, ...]:
        return "agent", "run", "--state-folder", str(self.folder / name)

    # -- the API ---------------------------------------------------------------------------------

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Ask the API as the owner. Returns: the decoded answer."""
        with self.http(self.owner.token) as client:
            answer = client.request(method, f"/api/v1/{path}", **({"json": body} if body else {}))
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

    def sources(self, cluster: str) -> list[str]:
        """The sources of a cluster whose first whole list has come."""
        found: list[str] = self.call("GET", f"clusters/{cluster}/gateway")["sources"]
        return found

    def prove(self, domain: str) -> None:
        """Verify a domain by the record that the API asks for."""
        record = self.call("POST", "domains", name=domain)["record"]
        self.pebble.set_record("set-txt", host=f"{record['name']}.", value=record["value"])
        assert self.call("POST", f"domains/{domain}/verify")["state"] == "verified"
        wait_for(lambda: self.answer(f"nothing.{domain}").status == 404, f"{domain} to be ours", TIMEOUT)

    def route(self, host: str) -> dict[str, Any]:
        """The route of a host."""
        items = self.call("GET", f"routes?search={host}")["items"]
        found: dict[str, Any] = next((one for one in items if one["host"] == host), {})
        return found

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command as the owner, and expect it to succeed."""
        access = {"TOWLINE_URL": self.url, "TOWLINE_TOKEN": self.owner.token, "TOWLINE_CA_FILE": str(self.authority)}
        done = subprocess.run(
            [self._towline, *words], cwd=self.folder, env=self._variables({**os.environ, **access}),
            capture_output=True, text=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    # -- visitors --------------------------------------------------------------------------------

    def answer(self, host: str, path: str = "/") -> Answer:
        """Ask for a published name by the server's own certificate: what is routed, whatever is certified."""
        return self._ask(host, path, self.trust(), OWN_NAME)

    def visit(self, host: str, path: str = "/") -> Answer:
        """Ask as a browser does that trusts Pebble's root. Raises: ssl.SSLError: the certificate is not the name's."""
        return self._ask(host, path, ssl.create_default_context(cadata=self.pebble.root()), host)

    def _ask(self, host: str, path: str, trust: ssl.SSLContext, name: str) -> Answer:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=TIMEOUT, context=trust)
        connection.sock = trust.wrap_socket(
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT), server_hostname=name
        )
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read())
        finally:
            connection.close()
