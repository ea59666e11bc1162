"""What the cluster's processes read: their configuration as data, without side effects."""

import json
from pathlib import Path
from typing import Any

NODE_BRIDGE, NODE_ADDRESS, NODE_NAME = "testbed0", "10.245.0.1", "node1"
POD_BRIDGE, POD_RANGE = "cni0", "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
PAUSE_IMAGE, SHELL_IMAGE = "localhost/pause:1", "localhost/busybox:1"
KUBELET_PORT = 21250
POD_LIMIT = 100

AUDIT_POLICY = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n"


def pod_network() -> dict[str, Any]:
    """The CNI chain: a bridge, addresses of one range, and host ports."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": POD_RANGE}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": POD_BRIDGE, "isGateway": True, "hairpinMode": True, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge, ports]}


def containerd(home: Path) -> str:
    """TOML for the node's own containerd. A container may not lower its OOM score on every machine."""
    return f"""
version = 2
root = "{home}/containerd"
state = "{home}/containerd.run"
[grpc]
  address = "{home}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{home}/net"
"""


def kubelet(home: Path) -> dict[str, Any]:
    """A kubelet that trusts everybody: only the API server of this machine can reach its address."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "failSwapOn": False,
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "containerRuntimeEndpoint": f"unix://{home}/containerd.sock",
        "maxPods": POD_LIMIT,
        "makeIPTablesUtilChains": False,
    }


def kube_proxy(home: Path) -> dict[str, Any]:
    """kube-proxy by iptables; a bridge without br_netfilter would lose answers from pod to pod unmasqueraded."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(home / "controllers.kubeconfig")},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        "iptables": {"masqueradeAll": True},
        "metricsBindAddress": "127.0.0.1:21249",
        "healthzBindAddress": "127.0.0.1:21256",
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def kubeconfig(server: str, authority: Path, user: str, token: str) -> dict[str, Any]:
    """A kubeconfig with one cluster, one user and one context."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority": str(authority)}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
    }


def write(path: Path, value: dict[str, Any]) -> None:
    """Write a configuration that is another one than before: kube-proxy ends when its file is touched.

    Every reader of it takes JSON for YAML.
    """
    text = json.dumps(value, indent=1)
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
