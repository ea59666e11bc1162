"""One cluster: its folder, its ports and its control plane; `node.py` adds the one node that a machine can have.

    cluster = Cluster("main"); cluster.up(with_node=True); … cluster.kubeconfig …; cluster.down()

There is no DNS inside the cluster and no registry: images come from `node.load`, with imagePullPolicy Never.
`log/audit.log` in the cluster's folder shows who asked for what, and as whom.
"""

import json
import shutil
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from tests.testbed import paths, processes
from tests.testbed.kubernetes import configuration, credentials, program

READY_TIMEOUT = 60.0
API_TIMEOUT = 2.0
CONTROL_PLANE = ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


class Cluster:
    """A control plane of its own. `index` shifts the ports, so that several run side by side."""

    def __init__(self, name: str = "main", *, index: int = 0) -> None:
        self.name = name
        self.home = paths.state(f"kubernetes-{name}")
        self.etcd_port = 22379 + 10 * index
        self.api_port = 26443 + index
        self.kubeconfig = self.home / "admin.kubeconfig"

    def __repr__(self) -> str:
        return f"<Cluster {self.name}, {self.status()}>"

    # -- processes -------------------------------------------------------------------------------

    def start(self, name: str, *argv: object) -> None:
        """Start one process in the cluster's folder unless it runs."""
        if self.running(name) is None:
            process = processes.spawn(argv, self.log(name), cwd=self.home)
            processes.remember(self.home / f"{name}.pid", processes.detach(process))

    def running(self, name: str) -> int | None:
        """The pid of one of the cluster's processes, None when it does not run."""
        return processes.recall(self.home / f"{name}.pid")

    def stop(self, name: str, *, timeout: float = processes.STOP_TIMEOUT) -> None:
        """End one process: by SIGKILL when it has not ended in time."""
        if (pid := self.running(name)) is not None:
            processes.end(pid, timeout=timeout)
        (self.home / f"{name}.pid").unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        """The log of one process."""
        (self.home / "log").mkdir(exist_ok=True)
        return self.home / "log" / f"{name}.log"

    # -- life ------------------------------------------------------------------------------------

    def up(self, *, with_node: bool) -> Path:
        """Start what does not run and wait until it is ready. Returns: the administrator's kubeconfig.

        A cluster of which nothing runs begins anew: what an earlier one left would come back restarted, or torn.
        """
        from tests.testbed.kubernetes import node  # a node is part of a cluster and knows it; not the other way round

        tools = program.build()
        if not any(self.running(name) for name in CONTROL_PLANE):
            self.down()
            self.home.mkdir(mode=0o700)
        if with_node:
            node.add_bridge()
        if self.running("kube-apiserver") is None:
            self._start_control_plane(tools, credentials.write(self.home), with_node=with_node)
        if with_node:
            node.start(self, tools)
        return self.kubeconfig

    def _start_control_plane(self, tools: Path, tokens: dict[str, str], *, with_node: bool) -> None:
        for user, token in tokens.items():
            server, authority = f"https://127.0.0.1:{self.api_port}", self.home / "authority.crt"
            content = configuration.kubeconfig(server, authority, user, token)
            configuration.write(self.home / f"{user}.kubeconfig", content)
        self.start("etcd", tools / "etcd", *self._etcd_words())
        self.start("kube-apiserver", tools / "kube-apiserver", *self._api_words(with_node=with_node))
        self.wait("kube-apiserver", self.is_ready)
        follow = ("--kubeconfig=controllers.kubeconfig", "--leader-elect=false", "--secure-port=0")
        keys = ("--service-account-private-key-file=service-account.key", "--root-ca-file=authority.crt")
        self.start("kube-controller-manager", tools / "kube-controller-manager", *follow, *keys)
        self.start("kube-scheduler", tools / "kube-scheduler", *follow)

    def _etcd_words(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_port + 1}"
        return [
            "--data-dir=etcd",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ]

    def _api_words(self, *, with_node: bool) -> list[str]:
        reach = ["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none"]
        if with_node:
            reach = ["--bind-address=0.0.0.0", f"--advertise-address={configuration.NODE_ADDRESS}"]
        return [
            *reach,
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--secure-port={self.api_port}",
            "--tls-cert-file=server.pem",
            "--tls-private-key-file=server.pem",
            f"--service-cluster-ip-range={configuration.SERVICE_RANGE}",
            "--token-auth-file=tokens.csv",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-signing-key-file=service-account.key",
            "--service-account-key-file=service-account.pub",
            "--allow-privileged=true",
            "--kubelet-preferred-address-types=InternalIP",
            "--audit-policy-file=audit.yaml",
            "--audit-log-path=log/audit.log",
        ]

    def down(self, *, timeout: float = processes.STOP_TIMEOUT) -> None:
        """End every process and pod, and remove the cluster's folder, networks and rules.

        Args: timeout: seconds that each process has to end by itself; an API server waits for all who watch.
        """
        from tests.testbed.kubernetes import node

        if node.exists(self):
            node.drain(self, timeout=timeout)
        for name in CONTROL_PLANE:
            self.stop(name, timeout=timeout)
        if node.exists(self):
            node.remove(self, program.build())
        shutil.rmtree(self.home, ignore_errors=True)

    # -- state -----------------------------------------------------------------------------------

    def api(self, path: str) -> bytes:
        """Ask the API server as the administrator. Raises: OSError."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
        """Send a request to the API server as the administrator. Raises: OSError; HTTPError is one."""
        token = (self.home / "tokens.csv").read_text().split(",")[0]
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.api_port}{path}", body, {"Authorization": f"Bearer {token}"}, method=method
        )
        request.add_header("Content-Type", kind)
        trust = ssl.create_default_context(cafile=str(self.home / "authority.crt"))
        with urllib.request.urlopen(request, timeout=API_TIMEOUT, context=trust) as answer:
            return bytes(answer.read())

    def items(self, path: str) -> list[dict[str, Any]]:
        """The objects of a list."""
        found: list[dict[str, Any]] = json.loads(self.api(path))["items"]
        return found

    def is_ready(self) -> bool:
        """Tell whether the API server says that it is ready."""
        try:
            return self.api("/readyz") == b"ok"
        except OSError:
            return False

    def wait(self, name: str, ready: Any) -> None:
        """Wait for a process of the cluster. Raises: DidNotStart."""
        processes.wait_until(
            ready, name, timeout=READY_TIMEOUT, log=self.log(name), alive=lambda: self.running(name) is not None
        )

    def status(self) -> str:
        """One line for people."""
        names = [*reversed(CONTROL_PLANE), "containerd", "kubelet", "kube-proxy"]
        running = [name for name in names if self.running(name)]
        return f"runs {', '.join(running)}" if running else "does not run"
