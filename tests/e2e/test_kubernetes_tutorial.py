"""The tutorial of the first cluster: its own commands, in their order, on a real cluster with the agent as a pod."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.pod_stack import IMAGE, PodStack
from tests.support.product import PASSWORD
from tests.support.tutorials import commands, files
from tests.testbed import bases, kubectl, paths
from tests.testbed.kubernetes import node
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(600)]
TUTORIAL = paths.PROJECT / "docs" / "tutorial" / "first-cluster.md"


@pytest.fixture
def stack(base_images: str, tmp_path: Path) -> Iterator[PodStack]:
    cluster = Cluster()
    bases.build(paths.PROJECT / "build" / "Dockerfile", IMAGE)
    node.load(cluster, IMAGE)
    with PodStack(tmp_path, cluster, kubectl.ensure(), namespace="towline") as stack:
        stack.user("ada", "admin")
        yield stack
        stack.directly("delete", "namespace", "shop", "towline", "--ignore-not-found", "--wait=false")


def here(stack: PodStack, line: str) -> str:
    """A command of the page with what only its readers know."""
    server = f"towline login {stack.url} --ca-file {stack.authority}"
    line = line.replace("towline login https://towline.example", server)
    return line.replace("--image registry.example/towline-agent:VERSION", f"--image {IMAGE} --pull-policy Never")


def test_every_command_of_the_tutorial_works_in_its_order(stack: PodStack, tmp_path: Path) -> None:
    page = TUTORIAL.read_text()
    (tmp_path / "password.txt").write_text(PASSWORD)
    (tmp_path / "shop.yaml").write_text(files(page)[0].replace("busybox:1", "localhost/busybox:1"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "kubectl").symlink_to(stack.clients.kubectl())
    path = f"{tmp_path}/bin:{Path(sys.executable).parent}"
    setting = f"export PATH={path}:$PATH KUBECONFIG={stack.cluster.kubeconfig} TOWLINE_CONFIG_DIR={tmp_path}/config"
    outputs: dict[str, str] = {}
    for command in commands(page):
        line = here(stack, command)
        if line.startswith(("export ", "unset ")):
            setting += f"; {line}" if line.startswith("export") else f"; export KUBECONFIG={stack.cluster.kubeconfig}"
            continue
        script = f"set -euo pipefail; {setting}; {line}"
        done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
    assert "towline:ada" in outputs["kubectl auth whoami"]
    assert re.search(r"web-\S+\s+0/1", outputs["towline kube get prod-eu pods -n shop"])
    assert ":8080" in outputs["kubectl -n shop exec deployment/web -- netstat -ltn"]
    assert "kubernetes.exec" in outputs["towline audit --limit 20"]
