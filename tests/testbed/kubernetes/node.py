"""The one node of a cluster on this machine: containerd, kubelet and kube-proxy as root, and their traces."""

import shutil
import subprocess
from pathlib import Path

from tests.testbed import images, processes
from tests.testbed.kubernetes import configuration, image
from tests.testbed.kubernetes.cluster import Cluster

CNI_LEASES = Path("/var/lib/cni/networks/pods")
NAMESPACES = Path("/var/run/netns")


def add_bridge() -> None:
    """Give the node an address that is not loopback, which the kubelet would refuse.

    Addresses of services end here as long as kube-proxy does not know them: nothing is to leave the machine for them,
    where a gateway may even answer.
    """
    name, address = configuration.NODE_BRIDGE, f"{configuration.NODE_ADDRESS}/32"
    if not Path(f"/sys/class/net/{name}").exists():
        for words in (["link", "add", name, "type", "bridge"], ["addr", "add", address, "dev", name]):
            subprocess.run(["ip", *words], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
    subprocess.run(["ip", "route", "replace", configuration.SERVICE_RANGE, "dev", name], check=True)


def exists(cluster: Cluster) -> bool:
    """Tell whether this cluster has ever had a node."""
    return (cluster.home / "containerd.toml").exists()


def start(cluster: Cluster, tools: Path) -> None:
    """Start the node's processes and wait until the API server calls it ready."""
    home = cluster.home
    configuration.write(home / "net" / "10-pods.conflist", configuration.pod_network())
    configuration.write(home / "kubelet.yaml", configuration.kubelet(home))
    configuration.write(home / "kube-proxy.yaml", configuration.kube_proxy(home))
    (home / "containerd.toml").write_text(configuration.containerd(home))
    cluster.start("containerd", "containerd", "--config", "containerd.toml")
    cluster.wait("containerd", lambda: ctr(cluster, "version").returncode == 0)
    load_busybox(cluster, configuration.PAUSE_IMAGE, ["/bin/sleep", "2147483647"])
    load_busybox(cluster, configuration.SHELL_IMAGE, [])
    cluster.start(
        "kubelet", tools / "kubelet", "--config=kubelet.yaml", "--kubeconfig=kubelet.kubeconfig",
        f"--root-dir={home / 'kubelet'}", f"--cert-dir={home / 'kubelet-certs'}",
        f"--hostname-override={configuration.NODE_NAME}", f"--node-ip={configuration.NODE_ADDRESS}",
    )  # fmt: skip
    cluster.start("kube-proxy", tools / "kube-proxy", "--config=kube-proxy.yaml")
    cluster.wait("kubelet", lambda: is_ready(cluster))


def is_ready(cluster: Cluster) -> bool:
    """Tell whether the node may take pods."""
    try:
        nodes = cluster.items("/api/v1/nodes")
    except OSError:
        return False
    conditions = [condition for node in nodes for condition in node["status"].get("conditions", [])]
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def ctr(cluster: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    """Ask the node's containerd."""
    where = ["--address", str(cluster.home / "containerd.sock"), "--namespace", "k8s.io"]
    return subprocess.run(["ctr", *where, *words], capture_output=True, text=True)


def load_busybox(cluster: Cluster, name: str, entrypoint: list[str]) -> None:
    """Give the node a busybox image under a name, without Docker."""
    if name not in ctr(cluster, "images", "list", "-q").stdout.split():
        archive = cluster.home / "image.tar"
        image.write_archive(archive, name, entrypoint)
        _import(cluster, archive, name)


def load(cluster: Cluster, name: str) -> None:
    """Copy an image of the local Docker engine to the node."""
    archive = cluster.home / "image.tar"
    images.docker("save", "-o", str(archive), name)
    _import(cluster, archive, name)


def _import(cluster: Cluster, archive: Path, name: str) -> None:
    done = ctr(cluster, "images", "import", str(archive))
    archive.unlink()
    if done.returncode:
        raise processes.DidNotStart(f"could not load {name}: {done.stderr.strip()}")


def drain(cluster: Cluster, *, timeout: float = processes.STOP_TIMEOUT) -> None:
    """Stop the node's own processes first, so that nobody starts the pods again."""
    for name in ("kubelet", "kube-proxy"):
        cluster.stop(name, timeout=timeout)


def remove(cluster: Cluster, tools: Path) -> None:
    """End the pods, and take away mounts, name spaces, rules and bridges."""
    for task in ctr(cluster, "tasks", "list", "-q").stdout.split():
        ctr(cluster, "tasks", "delete", "--force", task)
    cluster.stop("containerd")
    for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        if (mount := line.split()[1]).startswith(f"{cluster.home}/"):
            subprocess.run(["umount", "--lazy", mount], capture_output=True)
    for space in NAMESPACES.glob("cni-*"):
        subprocess.run(["ip", "netns", "delete", space.name], capture_output=True)
    subprocess.run([tools / "kube-proxy", "--cleanup"], capture_output=True)
    for bridge in (configuration.POD_BRIDGE, configuration.NODE_BRIDGE):
        subprocess.run(["ip", "link", "delete", bridge], capture_output=True)
    shutil.rmtree(CNI_LEASES, ignore_errors=True)
