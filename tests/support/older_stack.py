"""A control plane, and our own agent in the modes of older systems, as processes beside the real cluster and Docker.

with OlderStack(folder, cluster, clients) as stack:
    stack.join_older("deploys", "instadeploy")
    stack.start_older("deploys")

An agent is called as its cluster is. `WEBSOCKET`, which speaks PipeOps over a WebSocket, is there from the start, and
its registered token is allowed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.kubernetes_stack import START_TIMEOUT, Stack, User
from tests.support.product import wait_for
from tests.testbed.kubectl import Clients
from tests.testbed.kubernetes.cluster import Cluster

WEBSOCKET, REST, DEPLOYS = "older-ws", "older-rest", "older-docker"
PROTOCOLS = {WEBSOCKET: "pipeops-ws", REST: "pipeops-rest", DEPLOYS: "instadeploy"}
NAMESPACE = "k8-older"
AUTHORITY = f"{NAMESPACE}-authority"
RBAC = "rbac.authorization.k8s.io"


class OlderStack(Stack):
    """See the module."""

    def __init__(self, folder: Path, cluster: Cluster, clients: Clients, settings: dict[str, str]) -> None:
        paces = {"HEARTBEAT_INTERVAL": "30", "OFFLINE_AFTER": "90"}  # these agents beat as they always did
        super().__init__(folder, cluster, clients, namespace=NAMESPACE, settings={**paces, **settings})
        self._tokens: dict[str, str] = {}

    def begin_agents(self) -> None:
        self.join_older(WEBSOCKET)
        self.start_older(WEBSOCKET)
        self._let_read_the_authority()
        self.call("PUT", f"clusters/{WEBSOCKET}/registered-token", {"allowed": True})
        wait_for(lambda: self.is_served(WEBSOCKET), f"the cluster; {self.logs(WEBSOCKET)}", START_TIMEOUT)

    # -- the API ---------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API as the owner. Returns: the decoded answer."""
        with self.http(self.owner.token) as client:
            answer = client.request(method, f"/api/v1/{path}", json=body)
        assert answer.is_success, f"{method} {path} -> {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def job(self, job_id: str, *, patience: float = 90.0) -> Any:
        """Wait for a job's end. Returns: the job."""

        def over() -> Any:
            found = self.call("GET", f"jobs/{job_id}")
            assert found["finished_at"], found
            return found

        return wait_for(over, f"the end of {job_id}", patience)

    def begin(self, cluster: str, *arguments: str) -> str:
        """Begin a command of kubectl in the agents' own namespace. Returns: the run."""
        wait_for(lambda: self._serves_kubernetes(cluster), f"{cluster} to be known to serve Kubernetes", START_TIMEOUT)
        body = {"program": "kubectl", "arguments": arguments, "clusters": [cluster], "namespace": self.namespace}
        made: str = self.call("POST", "commands/runs", body)["id"]
        return made

    def _serves_kubernetes(self, cluster: str) -> bool:
        """What an agent carries is written a moment after it came."""
        carried = self.call("GET", f"clusters/{cluster}")["capabilities"]
        return any(each["name"] == "kubernetes" and each["ready"] for each in carried)

    def target(self, run: str) -> Any:
        """What became of a run on its one cluster."""
        (found,) = self.call("GET", f"commands/runs/{run}")["targets"]
        return found

    def printed(self, run: str) -> str:
        """Standard output of a run."""
        found: str = self.call("GET", f"commands/runs/{run}/targets/0")["stdout"]
        return found

    def ended(self, run: str, *, patience: float = 90.0) -> Any:
        """Wait for a run's end. Returns: what became of it."""

        def over() -> Any:
            found = self.call("GET", f"commands/runs/{run}")
            assert found["ended_at"], found
            return self.target(run)

        return wait_for(over, f"the end of {run}", patience)

    def through(self, user: User, version: str) -> Any:
        """A kubectl that goes through the older link."""
        return user.client(version, cluster=WEBSOCKET)

    def logs(self, *names: str) -> str:
        """The ends of logs, for failures."""
        return "\n".join(f"-- {name}:\n{self.log(name)}" for name in ("server", *names))

    # -- agents ----------------------------------------------------------------------------------

    def join_older(self, cluster: str) -> None:
        """Make the token that the agent of a cluster presents, once."""
        if cluster in self._tokens:
            return
        protocol = PROTOCOLS[cluster].partition("-")[0]
        self._tokens[cluster] = self.call("POST", "compat/tokens", {"protocol": protocol, "cluster": cluster})["token"]

    def start_older(self, cluster: str) -> None:
        """Start an agent by the names that the original reads, and wait until it is connected."""
        words = ("agent", "run", "--protocol", PROTOCOLS[cluster], "--state-folder", str(self.folder / cluster))
        own = self._deploying(cluster) if cluster == DEPLOYS else self._reporting(cluster)
        self._start(cluster, {"TOWLINE_AGENT_CA_FILE": str(self.authority), **own}, *words)
        wait_for(lambda: self._has_come(cluster), f"the agent of {cluster}; {self.logs(cluster)}", START_TIMEOUT)

    def end(self, cluster: str) -> None:
        """Stop an agent, if it runs."""
        if cluster in self._running:
            self.stop(cluster)

    def _has_come(self, cluster: str) -> bool:
        """A cluster is made when its agent first comes."""
        assert self._running[cluster].poll() is None, self.log(cluster)
        return self.is_connected(cluster)

    def _reporting(self, cluster: str) -> dict[str, str]:
        return {
            **self._agent_environment(cluster), "PIPEOPS_API_URL": self.url, "PIPEOPS_TOKEN": self._tokens[cluster],
            "PIPEOPS_CLUSTER_NAME": cluster, "AGENT_ID": f"agent-of-{cluster}",
        }  # fmt: skip

    def _deploying(self, cluster: str) -> dict[str, str]:
        url = self.url.replace("https:", "wss:") + "/ws"
        return {"SERVER_URL": url, "AGENT_TOKEN": self._tokens[cluster], "TOWLINE_AGENT_KUBERNETES": "off"}

    def _let_read_the_authority(self) -> None:
        """What an older agent's account may do besides our own agent's: read who signs for the API server."""
        rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
        named = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": AUTHORITY}}
        role = {"apiGroup": RBAC, "kind": "ClusterRole", "name": AUTHORITY}
        subject = {"kind": "ServiceAccount", "name": "agent", "namespace": NAMESPACE}
        self.admin.apply(f"/apis/{RBAC}/v1/clusterroles", {**named, "kind": "ClusterRole", "rules": rules})
        binding = {**named, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]}
        self.admin.apply(f"/apis/{RBAC}/v1/clusterrolebindings", binding)
