"""A control plane and an agent in processes of their own, joined to the test bed's cluster, and users with kubeconfigs.

with Stack(folder, cluster) as stack:
    ada = stack.user("ada", "admin")
    ada.kubectl("get", "ns").stdout

The processes are the shipped commands, so that a test can kill them and look at their memory.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from tests.support.connect_proxy import ConnectProxy
from tests.support.kube_agent import Admin, make_agent_account
from tests.support.kubectl import Client
from tests.support.product import PASSWORD, wait_for
from tests.testbed import processes
from tests.testbed.kubectl import Clients
from tests.testbed.kubernetes import configuration
from tests.testbed.kubernetes.cluster import Cluster

CLUSTER = "prod-1"
BASE_HOST = "k8s.towline.test"
START_TIMEOUT = 60.0
# Everybody in these tests comes from one address; the limits that are set here have tests of their own.
SERVER = {
    "LOGIN_PER_ADDRESS": "1000",
    "LOGIN_PER_ACCOUNT": "1000",
    "ENROL_PER_ADDRESS": "1000",
    "CONNECTIONS_PER_ADDRESS": "2000",
    "API_RATE": "1000",
    "API_BURST": "1000",
    "HEARTBEAT_INTERVAL": "2",
    "OFFLINE_AFTER": "6",
    "DRAIN_TIMEOUT": "1",
    "LOG_LEVEL": "info",
    "KUBERNETES_HOST": BASE_HOST,
    "HOSTNAMES": "127.0.0.1,localhost",
    "ADMIN_USERNAME": "root",
}


@dataclass
class User:
    """Somebody with a token, and clients that act for them through Towline."""

    stack: Stack
    name: str
    token: str
    token_id: str

    @property
    def identity(self) -> str:
        return f"towline:{self.name}"

    def client(self, version: str = "1.37", *, cluster: str = CLUSTER, server: str = "", **changes: Any) -> Client:
        """A kubectl with a kubeconfig and a cache of its own."""
        return self.stack.client(server or self.stack.server(cluster), {"token": self.token}, version, **changes)

    def kubectl(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run kubectl and expect it to succeed."""
        return self.client().succeed(*words, **options)

    def http(self, **options: Any) -> httpx.Client:
        """A client of the cluster's API through Towline."""
        return self.stack.http(self.token, **{"base_url": self.stack.server(CLUSTER), **options})


@dataclass
class Stack:
    """See the module."""

    folder: Path
    cluster: Cluster
    clients: Clients
    port: int = field(default_factory=processes.free_port)
    namespace: str = "k8-agent"
    settings: dict[str, str] = field(default_factory=dict)
    """Of the server, over those that every test has."""
    agent_settings: dict[str, str] = field(default_factory=dict)
    """The same of agents."""
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _names: ConnectProxy | None = None
    _made: int = 0

    def __enter__(self) -> Self:
        self.admin = Admin(self.cluster)
        (self.folder / "password").write_text(PASSWORD)
        try:
            self.start_server()
            self.owner = self.log_in("root")
            self.begin_agents()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin_agents(self) -> None:
        """Join and start the agents that are there from the beginning."""
        self.join("agent", CLUSTER)
        self.start_agent()

    def __exit__(self, *_: object) -> None:
        if self._names is not None:
            self._names.close()
        for name in list(self._running)[::-1]:
            self.stop(name)

    # -- processes -------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start the control plane, with what it had before."""
        values = {
            **SERVER,
            **self.settings,
            "LISTEN": f"127.0.0.1:{self.port}",
            "DATA_FOLDER": str(self.folder / "server"),
            "ADMIN_PASSWORD_FILE": str(self.folder / "password"),
        }
        environment = {f"TOWLINE_SERVER_{name}": value for name, value in values.items()}
        self._start("server", environment, "server", "run")
        wait_for(self._answers, f"the server; its log:\n{self.log('server')}", START_TIMEOUT)

    def start_agent(self, name: str = "agent", cluster: str = CLUSTER) -> None:
        """Start an agent that has joined, and wait until its cluster is served."""
        self._start(name, self._agent_environment(name), "agent", "run", "--state-folder", str(self.folder / name))
        wait_for(lambda: self.is_served(cluster), f"the agent {name}", START_TIMEOUT)

    def agent_config(self, name: str, port: int, authority: Path) -> None:
        """Write the kubeconfig of an agent: as its ServiceAccount, to this port."""
        token = make_agent_account(self.admin, self.namespace, inventory=True)
        content = configuration.kubeconfig(f"https://127.0.0.1:{port}", authority, "agent", token)
        configuration.write(self.folder / f"{name}.kubeconfig", content)

    def _agent_environment(self, name: str) -> dict[str, str]:
        path = self.folder / f"{name}.kubeconfig"
        if not path.exists():
            self.agent_config(name, self.cluster.api_port, self.cluster.home / "authority.crt")
        return {
            "TOWLINE_AGENT_KUBECONFIG": str(path),
            "TOWLINE_AGENT_DOCKER_HOST": f"unix://{self.folder}/none.sock",
            **{f"TOWLINE_AGENT_{name}": value for name, value in self.agent_settings.items()},
        }

    def join(self, name: str, cluster: str) -> None:
        """Join an agent to a cluster of this name."""
        with self.http(self.owner.token) as client:
            answer = client.post("/api/v1/join-tokens", json={"cluster_name": cluster})
            assert answer.status_code == 201, answer.text
        (self.folder / f"{name}.token").write_text(answer.json()["token"])
        words = ["--server", self.url, "--token-file", f"{name}.token", "--ca-file", str(self.authority)]
        command = [self._towline, "agent", "join", *words, "--state-folder", name]
        done = subprocess.run(command, cwd=self.folder, env=self._variables({}), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def _towline(self) -> str:
        return str(Path(sys.executable).with_name("towline"))

    def _variables(self, changes: dict[str, str]) -> dict[str, str]:
        return {**os.environ, "TOWLINE_CONFIG_DIR": str(self.folder / "config"), "NO_COLOR": "1", **changes}

    def _start(self, name: str, environment: dict[str, str], *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [self._towline, *words], cwd=self.folder, env=self._variables(environment), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def stop(self, name: str) -> None:
        """End a process as its operator would."""
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def kill(self, name: str) -> None:
        """End a process as a power cut would."""
        process = self._running.pop(name)
        process.kill()
        process.wait()

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def memory(self, name: str) -> int:
        """Bytes of memory that a process holds right now."""
        for line in Path(f"/proc/{self.pid(name)}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)

    def log(self, name: str) -> str:
        return processes.tail(self.folder / f"{name}.log")

    # -- the control plane -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def plain_url(self) -> str:
        """Without TLS, as loopback may: a browser does not know the server's own authority."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def authority(self) -> Path:
        return self.folder / "server" / "tls" / "authority.pem"

    def server(self, cluster: str = CLUSTER) -> str:
        """The address of a cluster, as it stands in a kubeconfig."""
        return f"{self.url}/k8s/clusters/{cluster}"

    def http(self, token: str = "", **options: Any) -> httpx.Client:
        """A client of the control plane."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            **{"base_url": self.url, "verify": self.trust(), "headers": headers, "timeout": 30, **options}
        )

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.authority)

    def direct_http(self) -> httpx.Client:
        """A client of the API server itself, as the administrator."""
        token = (self.cluster.home / "tokens.csv").read_text().split(",")[0]
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.cluster.api_port}", headers={"authorization": f"Bearer {token}"},
            verify=ssl.create_default_context(cafile=self.cluster.home / "authority.crt"), timeout=30,
        )  # fmt: skip

    def own_host_client(self, token: str, version: str = "1.37", cluster: str = CLUSTER) -> Client:
        """A kubectl that reaches the cluster by a host name of its own, through a proxy that knows where that is."""
        if self._names is None:
            self._names = ConnectProxy(self.port)
        server = f"https://{cluster}.{BASE_HOST}:{self.port}"
        return self.client(server, {"token": token}, version, **{"proxy-url": self._names.url})

    def _answers(self) -> bool:
        assert self._running["server"].poll() is None, self.log("server")
        if not self.authority.exists():
            return False
        with self.http() as client:
            return client.get("/readyz").status_code == 200

    def is_served(self, cluster: str) -> bool:
        """Tell whether the cluster answers through its agent right now."""
        with self.http(self.owner.token) as client:
            return client.get(f"/k8s/clusters/{cluster}/version").status_code == 200

    def is_connected(self, cluster: str) -> bool:
        """Tell whether the link of a cluster's agent is up, whatever its API server does."""
        with self.http(self.owner.token) as client:
            rows = client.get("/api/v1/clusters", params={"limit": 100}).json()["items"]
        return any(row["name"] == cluster and row["link"]["connected"] for row in rows)

    def log_in(self, name: str) -> User:
        """Sign in, and make a token for clients."""
        with self.http() as client:
            wanted = {"username": name, "password": PASSWORD, "client": "cli"}
            answer = client.post("/api/v1/login", json=wanted)
            assert answer.status_code == 200, answer.text
            return self.new_token(User(self, name, answer.json()["token"], ""))

    def new_token(self, user: User, **wanted: Any) -> User:
        """The same user with a further token."""
        self._made += 1
        with self.http(user.token) as client:
            answer = client.post("/api/v1/tokens", json={"name": f"clients-{self._made}", **wanted})
            assert answer.status_code == 201, answer.text
        return User(self, user.name, answer.json()["token"], answer.json()["id"])

    def user(self, name: str, role: str, *, scope: dict[str, Any] | None = None, bound_to: str = "") -> User:
        """Make a user with a role. Args: bound_to: the ClusterRole that their own name gets in the cluster."""
        with self.http(self.owner.token) as client:
            answer = client.post("/api/v1/users", json={"username": name, "password": PASSWORD})
            assert answer.status_code == 201, answer.text
            self.grant(name, role, scope)
        if bound_to:
            self.bind(name, bound_to)
        return self.log_in(name)

    def grant(self, name: str, role: str, scope: dict[str, Any] | None = None) -> str:
        """Give a role. Returns: the id of the grant."""
        with self.http(self.owner.token) as client:
            wanted = {"user": name, "role": role, **({"scope": scope} if scope else {})}
            answer = client.post("/api/v1/grants", json=wanted)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])

    def bind(self, name: str, cluster_role: str) -> None:
        """Bind a user's own name to a ClusterRole everywhere, so that groups of other tests stay as they are."""
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": f"k8-{name}"},
            "subjects": [{"kind": "User", "name": f"towline:{name}", "apiGroup": group}],
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": cluster_role},
        }  # fmt: skip
        self.admin.apply(f"/apis/{group}/v1/clusterrolebindings", binding)

    def local_token(self, name: str = "agent") -> str:
        """The token of an agent's own surface, with the right to operate."""
        words = [self._towline, "agent", "token", "--operate", "--state-folder", name]
        done = subprocess.run(words, cwd=self.folder, env=self._variables({}), capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    @property
    def account(self) -> str:
        """The agent's own name in the cluster."""
        return f"system:serviceaccount:{self.namespace}:agent"

    @property
    def audit_log(self) -> Path:
        return self.cluster.home / "log" / "audit.log"

    # -- clients ---------------------------------------------------------------------------------

    def client(
        self, server: str, user: dict[str, Any], version: str = "1.37", *, authority: Path | None = None, **cluster: Any
    ) -> Client:
        """A kubectl with a kubeconfig and a cache of its own. Args: cluster: more fields of its cluster."""
        self._made += 1
        home = self.folder / f"client-{self._made}"
        home.mkdir()
        pem = (authority or self.authority).read_bytes()
        entry = {"server": server, "certificate-authority-data": base64.b64encode(pem).decode(), **cluster}
        content = {
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": entry}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }  # fmt: skip
        (home / "config").write_text(json.dumps(content))
        (home / "config").chmod(0o600)
        return Client(self.clients, version, home)

    def direct(self, user: str = "", groups: tuple[str, ...] = (), version: str = "1.37") -> Client:
        """A kubectl that speaks to the API server itself: as the administrator, or as somebody by impersonation."""
        token = (self.cluster.home / "tokens.csv").read_text().split(",")[0]
        who: dict[str, Any] = {"token": token}
        if user:
            who |= {"as": user, "as-groups": list(groups)}
        server = f"https://127.0.0.1:{self.cluster.api_port}"
        return self.client(server, who, version, authority=self.cluster.home / "authority.crt")

    @contextlib.contextmanager
    def empty_namespace(self, name: str) -> Iterator[str]:
        """A namespace that goes away afterwards, without waiting for its end. A killed run may have left one."""
        direct = self.direct()
        direct.succeed("delete", "namespace", name, "--ignore-not-found")
        direct.succeed("create", "namespace", name)
        yield name
        direct.run("delete", "namespace", name, "--wait=false")
