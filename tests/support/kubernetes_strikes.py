"""What can happen to an agent in a cluster, on purpose: to its pod, its API server, etcd, its token and its line.

The bed has a cluster of its own, so that nobody else meets the strikes, and a relay as the line between the pod and the
control plane. `sample` tells what both processes hold; what clients see meanwhile is `kubernetes_load.py`.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tests.support.chaos import Relay
from tests.support.pod_stack import IMAGE, PodStack
from tests.support.product import wait_for
from tests.testbed import bases, paths
from tests.testbed.kubernetes import configuration, node, program

NAMESPACE, CLUSTER = "soak-agent", "soaked"
ACCOUNT_MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
TOKEN_SECRET = "rotated-token"
BACK_TIMEOUT = 120.0
PATIENCE = 2.0
"""Seconds that the cluster's servers have to end politely: they would wait for every watch."""
OPEN = ("towline_kubernetes_open", "towline_streams_open", "towline_link_streams_open")


@dataclass(frozen=True)
class Held:
    """What one process holds."""

    memory: int
    descriptors: int
    tasks: int

    def is_less(self, other: Held) -> bool:
        return self.descriptors < other.descriptors or self.tasks < other.tasks

    def and_fewest(self, other: Held) -> Held:
        """The same memory, and the lower of the counts: looking at them needs a descriptor too."""
        return Held(self.memory, min(self.descriptors, other.descriptors), min(self.tasks, other.tasks))

    def __str__(self) -> str:
        return f"{self.memory / 1048576:.1f} MiB, {self.descriptors} descriptors, {self.tasks} tasks"


class SoakBed(PodStack):
    """See the module."""

    cluster_name = CLUSTER
    token_number = 0

    # -- life ------------------------------------------------------------------------------------

    @staticmethod
    def build() -> None:
        """Have the image, which other tests build too."""
        bases.build(paths.PROJECT / "build" / "Dockerfile", IMAGE)

    def bring_up(self) -> None:
        """Have the pod, of an image that was built, joined by way of the relay."""
        node.load(self.cluster, IMAGE)
        self.relay = Relay(self.port, configuration.NODE_ADDRESS)
        line = f"https://{configuration.NODE_ADDRESS}:{self.relay.port}"
        objects = list(yaml.safe_load_all(self.manifest(server=line)["manifest"]))
        before = [one for one in objects if one["kind"] in ("Namespace", "ServiceAccount")]
        self.directly("apply", "-f", "-", content=yaml.safe_dump_all(before))
        self._write_token()
        self.directly("apply", "-f", "-", content=yaml.safe_dump_all(map(_with_token_of_ours, objects)))
        self.wait_until_served()

    def wait_until_served(self, timeout: float = BACK_TIMEOUT) -> float:
        """Returns: the seconds it took."""
        began = time.monotonic()
        wait_for(lambda: self.is_served(CLUSTER), f"the cluster to be served\n{self.log('server')}", timeout)
        return time.monotonic() - began

    # -- strikes ---------------------------------------------------------------------------------

    def delete_pod(self) -> None:
        name = self.pods()[0]["metadata"]["name"]
        self.directly("delete", "pod", "-n", NAMESPACE, name, "--wait=true")

    def restart_api(self) -> None:
        self.cluster.stop("kube-apiserver", timeout=PATIENCE)
        self._start_api()

    def _start_api(self) -> None:
        words = self.cluster._api_words(with_node=True)
        self.cluster.start("kube-apiserver", program.build() / "kube-apiserver", *words)
        self.cluster.wait("kube-apiserver", self.cluster.is_ready)

    def stop_etcd(self, seconds: float) -> None:
        """An API server that has lost etcd for long may end itself; it is started again, as its kubelet would."""
        self.cluster.stop("etcd", timeout=PATIENCE)
        time.sleep(seconds)
        self.cluster.start("etcd", program.build() / "etcd", *self.cluster._etcd_words())
        if self.cluster.running("kube-apiserver") is None:
            self._start_api()
        self.cluster.wait("kube-apiserver", self.cluster.is_ready)

    def rotate_token(self) -> None:
        """Hand the pod a new token, then revoke the old one: a token dies with the Secret that it is bound to."""
        old = f"bound-{self.token_number}"
        self._write_token()
        pod = self.pods()[0]["metadata"]["name"]
        # The kubelet looks at the volumes of a pod that changed at once; else it would within its minute.
        self.directly("annotate", "pod", "-n", NAMESPACE, pod, f"rotated={self.token_number}", "--overwrite")
        self.directly("delete", "secret", "-n", NAMESPACE, old)

    def _write_token(self) -> None:
        self.token_number += 1
        core, bound = f"/api/v1/namespaces/{NAMESPACE}", f"bound-{self.token_number}"
        made = self.admin.apply(f"{core}/secrets", _secret(bound, {}))
        reference = {"kind": "Secret", "apiVersion": "v1", "name": bound, "uid": made["metadata"]["uid"]}
        wanted = {"spec": {"expirationSeconds": 3600, "boundObjectRef": reference}}
        token = self.admin.ask("POST", f"{core}/serviceaccounts/towline-agent/token", wanted)["status"]["token"]
        authority = (self.cluster.home / "authority.crt").read_text()
        self.admin.apply(
            f"{core}/secrets", _secret(TOKEN_SECRET, {"token": token, "ca.crt": authority, "namespace": NAMESPACE})
        )

    def strike_line(self, draw: random.Random, longest: float) -> str:
        """Cut the line, or make it silent for a while, then let it be well again. Returns: what was done."""
        kind, away = draw.choice(("cut", "silence", "silence, then cut")), draw.uniform(0, longest)
        if kind == "cut":
            self.relay.cut()
        else:
            self.relay.silence()
        time.sleep(away)
        if kind == "silence, then cut":
            self.relay.cut()
        self.relay.heal()
        return f"{kind}, {away:.1f} s"

    # -- what they hold --------------------------------------------------------------------------

    def sample(self) -> dict[str, Held]:
        agent = self.agent_pid()
        return {
            "server": _held(self.pid("server"), int(sum(self.figures("towline_tasks")))),
            "agent": _held(agent, self._agent_tasks(agent)),
        }

    def agent_pid(self) -> int:
        """The pod's first process, as the machine numbers it."""
        (status,) = self.pods()[0]["status"]["containerStatuses"]
        wanted = status["containerID"].removeprefix("containerd://")
        for line in node.ctr(self.cluster, "tasks", "list").stdout.splitlines():
            if line.startswith(wanted):
                return int(line.split()[1])
        raise AssertionError(f"{wanted} does not run")

    def _agent_tasks(self, pid: int) -> int:
        told = Path(f"/proc/{pid}/root/var/lib/towline-agent/state/alive").read_text()
        return int(told.split()[0])

    def figures(self, name: str) -> list[float]:
        """The values of one figure of the server, all labels."""
        with self.http(self.owner.token) as client:
            lines = client.get("/metrics").text.splitlines()
        return [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]

    def open_streams(self) -> dict[str, float]:
        """What is open, but for the one stream that this very question may need."""
        found = {name: sum(self.figures(name)) for name in OPEN}
        return {name: value for name, value in found.items() if value > 1}


def _held(pid: int, tasks: int) -> Held:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    return Held(memory * 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), tasks)


def _secret(name: str, values: dict[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _with_token_of_ours(one: dict[str, Any]) -> dict[str, Any]:
    """The generated Deployment, but its token comes from a Secret: then it can be revoked at a moment of our choice."""
    if one["kind"] == "Deployment":
        pod = one["spec"]["template"]["spec"]
        pod["automountServiceAccountToken"] = False
        pod["volumes"].append({"name": "account", "secret": {"secretName": TOKEN_SECRET, "defaultMode": 0o440}})
        mount = {"name": "account", "mountPath": ACCOUNT_MOUNT, "readOnly": True}
        pod["containers"][0]["volumeMounts"].append(mount)
    return one


def shown(figures: dict[str, Held]) -> str:
    return json.dumps({name: str(held) for name, held in figures.items()})
