"""The tutorial's own commands, in their order, on real Docker: the page cannot say what does not work."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.support.product import PASSWORD, Product, wait_for
from tests.support.tutorials import commands, files
from tests.testbed import images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorial"


@pytest.fixture
def product(tmp_path: Path, docker_engine: str) -> Iterator[Product]:
    images.make_web("nginx:alpine")
    with Product(tmp_path) as running:
        running.set_up("ada")
        (tmp_path / "password.txt").write_text(PASSWORD)
        yield running
        running.run("towline remove here/shop --volumes --yes")


def follow(product: Product, page: str, *, after: Mapping[str, Callable[[], object]] | None = None) -> dict[str, str]:
    """Type every command of a page. Args: after: what else to do behind some of them. Returns: what each printed."""
    login = f"towline login {product.url} --user ada --password-file password.txt"
    port = product.url.rpartition(":")[2]
    outputs: dict[str, str] = {}
    for command in commands(page):
        line = re.sub(r"towline login \S+ .*", login, command).replace(":8443/", f":{port}/")
        done = product.run(f"set -euo pipefail; {line}")
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
        if command.startswith("towline login"):
            wait_for(lambda: is_healthy(product), "this machine to be healthy", 60, product)
        if after and command in after:
            after[command]()
    return outputs


def test_every_command_of_the_first_deploy_works_in_its_order(product: Product, tmp_path: Path) -> None:
    page = (TUTORIALS / "first-deploy.md").read_text()
    (tmp_path / "compose.yaml").write_text(files(page)[0])
    outputs = follow(product, page)
    assert "some data" in outputs["towline exec here/shop web -- cat /pages/note.txt"]
    assert "deployment.deploy" in outputs["towline audit --limit 10"]


@pytest.fixture
def gateway(tmp_path: Path, docker_engine: str) -> Iterator[Product]:
    images.make_web("nginx:alpine")
    with Product(tmp_path, environment={"TOWLINE_SERVER_GATEWAY_DOMAIN": "apps.localhost"}) as running:
        running.set_up("ada")
        (tmp_path / "password.txt").write_text(PASSWORD)
        yield running
        running.run("towline remove here/shop --volumes --yes; towline remove here/blog --volumes --yes")


def test_every_command_of_the_first_name_works_in_its_order(gateway: Product, tmp_path: Path) -> None:
    page = (TUTORIALS / "first-route.md").read_text()
    for name, content in zip(("compose.yaml", "blog.yaml"), files(page), strict=True):
        (tmp_path / name).write_text(content)
    port = gateway.url.rpartition(":")[2]
    blog = f"curl --silent --show-error --fail --cacert authority.pem https://blog-here.apps.localhost:{port}/"
    labelled = {
        "towline deploy here/blog -f blog.yaml": lambda: wait_for(
            lambda: gateway.run(blog).returncode == 0, "the label's name", 30, gateway
        )
    }
    outputs = follow(gateway, page, after=labelled)
    asked = "curl --silent --show-error --head --cacert authority.pem https://shop-here.apps.localhost:8443/"
    assert "x-served-by: towline" in outputs[asked].lower()
    assert "blog-here.apps.localhost" in outputs["towline routes"]


def is_healthy(product: Product) -> bool:
    shown = product.run("towline clusters -o json")
    assert shown.returncode == 0, shown.stderr
    clusters = json.loads(shown.stdout)
    assert clusters, "no cluster yet"
    assert clusters[0]["health"]["state"] == "healthy", clusters[0]["health"]
    return True


def test_a_second_start_goes_on_with_the_same_users_and_the_same_cluster(product: Product, tmp_path: Path) -> None:
    assert product.run(f"towline login {product.url} --user ada --password-file password.txt").returncode == 0
    wait_for(lambda: is_healthy(product), "this machine to be healthy", 60, product)
    before = json.loads(product.run("towline clusters -o json").stdout)
    port = int(product.url.rpartition(":")[2])
    assert product.stop() == 0
    product.start(port=port)
    wait_for(lambda: is_healthy(product), "this machine to be healthy again", 60, product)
    after = json.loads(product.run("towline clusters -o json").stdout)
    assert [cluster["id"] for cluster in after] == [cluster["id"] for cluster in before]
