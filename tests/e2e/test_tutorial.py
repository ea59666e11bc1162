"""The tutorial's own commands, in their order, on real Docker: the page cannot say what does not work."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.product import PASSWORD, Product, wait_for
from tests.support.tutorials import commands, first_file
from tests.testbed import images

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]
TUTORIAL = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-deploy.md"


@pytest.fixture
def product(tmp_path: Path, docker_engine: str) -> Iterator[Product]:
    images.make_web("nginx:alpine")
    with Product(tmp_path) as running:
        running.set_up("ada")
        (tmp_path / "password.txt").write_text(PASSWORD)
        yield running
        running.run("towline remove here/shop --volumes --yes")


def test_every_command_of_the_tutorial_works_in_its_order(product: Product, tmp_path: Path) -> None:
    page = TUTORIAL.read_text()
    (tmp_path / "compose.yaml").write_text(first_file(page))
    login = f"towline login {product.url} --user ada --password-file password.txt"
    outputs: dict[str, str] = {}
    for command in commands(page):
        line = re.sub(r"towline login \S+ .*", login, command)
        done = product.run(f"set -euo pipefail; {line}")
        assert done.returncode == 0, f"$ {line}\n{done.stdout}\n{done.stderr}"
        outputs[command] = done.stdout
        if command.startswith("towline login"):
            wait_for(lambda: is_healthy(product), "this machine to be healthy", 60, product)
    assert "some data" in outputs["towline exec here/shop web -- cat /pages/note.txt"]
    assert "deployment.deploy" in outputs["towline audit --limit 10"]


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
