"""What several stories share: a product with a user who signed in and a project that runs."""

from collections.abc import Iterator

import pytest
from tests.support.commands import answer, succeed
from tests.support.product import PASSWORD, Product, wait_for
from tests.testbed import images

SHOP = f"""\
services:
  web:
    image: {images.BASE}
    command: ["sh", "-c", "echo the shop is open; cat /etc/shop/notice.txt; exec sleep 1000"]
    stop_signal: KILL
    environment:
      COLOUR: ${{COLOUR}}
    volumes: ["./notice.txt:/etc/shop/notice.txt:ro"]
"""


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, docker_engine: str) -> Iterator[Product]:
    """A product with ada signed in, this machine called `here`, and a project that runs."""
    folder = tmp_path_factory.mktemp("cli")
    with Product(folder) as running:
        running.set_up("ada")
        (folder / "password.txt").write_text(PASSWORD)
        succeed(running, f"towline login {running.url} --user ada --password-file password.txt")
        (name,) = wait_for(
            lambda: answer(running, "towline clusters --state healthy"), "a healthy cluster", 60, running
        )
        succeed(running, f"towline clusters rename {name['name']} here")
        files = folder / "shop"
        files.mkdir()
        (files / "compose.yaml").write_text(SHOP)
        (files / "notice.txt").write_text("mind the step\n")
        (files / ".env").write_text("COLOUR=red\n")
        succeed(running, "towline deploy here/w4cli --folder shop --settle 1 -m first")
        yield running
        running.run("towline remove here/w4cli --volumes --yes")
