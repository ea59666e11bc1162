"""`towline server …` as its operator has it: check, backup and restore elsewhere, reset-admin, status of an agent."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import NOT_ALLOWED, USAGE, answer, fail, succeed
from tests.support.product import PASSWORD, Product, wait_for

pytestmark = pytest.mark.timeout(180)
OTHER_PASSWORD = "a new and longer password"
PASSPHRASE = "a passphrase that nobody guesses"


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    # No Docker: what is proved here is about the server and the agent's identity.
    with Product(tmp_path, environment={"TOWLINE_AGENT_DOCKER_HOST": f"unix://{tmp_path}/none.sock"}) as running:
        running.set_up("ada")
        (tmp_path / "password.txt").write_text(PASSWORD)
        (tmp_path / "other.txt").write_text(OTHER_PASSWORD)
        (tmp_path / "passphrase.txt").write_text(PASSPHRASE)
        yield running


def sign_in(product: Product, password_file: str = "password.txt") -> None:
    succeed(product, f"towline login {product.url} --user ada --password-file {password_file}")


def connected(product: Product) -> list[dict[str, object]]:
    return [each for each in answer(product, "towline clusters") if each["link"]["connected"]]


def test_a_backup_comes_back_in_another_folder_and_the_agent_with_it(product: Product, tmp_path: Path) -> None:
    sign_in(product)
    (before,) = wait_for(lambda: connected(product), "the agent of this machine", 60, product)
    succeed(product, "towline server backup all.backup --data-folder up/server --passphrase-file passphrase.txt")
    fail(product, "towline server backup all.backup --data-folder up/server", USAGE, "is there already")
    assert PASSPHRASE.encode() not in (tmp_path / "all.backup").read_bytes()
    identity = (tmp_path / "up" / "agent" / "identity.json").read_text()
    port = int(product.url.rpartition(":")[2])
    product.stop()

    (tmp_path / "old").mkdir()
    (tmp_path / "up" / "server").rename(tmp_path / "old" / "server")
    fail(product, "towline server restore all.backup --data-folder up/server --passphrase-file other.txt", 1)
    succeed(product, "towline server restore all.backup --data-folder up/server --passphrase-file passphrase.txt")
    product.start(port=port)
    (after,) = wait_for(lambda: connected(product), "the agent to come back by itself", 60, product)
    assert after["id"] == before["id"]
    kept = ("agent_id", "cluster_id", "instance_id")
    now = json.loads((tmp_path / "up" / "agent" / "identity.json").read_text())
    assert {name: now.get(name) for name in kept} == {name: json.loads(identity).get(name) for name in kept}
    assert len(answer(product, "towline audit verify")) >= 1


def test_who_lost_the_password_gets_in_again_on_the_servers_own_machine(product: Product) -> None:
    sign_in(product)
    succeed(product, "towline whoami")
    fail(product, "towline server reset-admin ada --data-folder up/server < /dev/null", USAGE)
    succeed(product, "towline server reset-admin ada --data-folder up/server --password-file other.txt")
    fail(product, f"towline login {product.url} --user ada --password-file password.txt", NOT_ALLOWED)
    sign_in(product, "other.txt")
    assert "owner on everything" in succeed(product, "towline whoami")


def test_what_is_wrong_in_the_settings_is_explained(product: Product, tmp_path: Path) -> None:
    (tmp_path / "good.toml").write_text('public_url = "https://towline.example"\ntrusted_proxies = ["10.0.0.0/8"]\n')
    succeed(product, "towline server check --config good.toml")
    (tmp_path / "bad.toml").write_text('public_ur = "https://x"\nlisten = "8443"\n')
    fail(product, "towline server check --config bad.toml", USAGE, "public_ur", "public_url", "listen", "ADDRESS:PORT")
    fail(product, "TOWLINE_SERVER_DATAFOLDER=x towline server check", USAGE, "TOWLINE_SERVER_DATA_FOLDER")
    fail(product, "towline server check --config none.toml", USAGE, "none.toml")
    fail(product, "towline server run --config bad.toml", USAGE, "public_url")
    fail(product, "TOWLINE_AGENT_STATEFOLDER=x towline agent status", USAGE, "state_folder")


def test_the_agent_of_this_machine_tells_how_it_is(product: Product, tmp_path: Path) -> None:
    state = "--state-folder up/agent"
    wait_for(lambda: not product.run(f"towline agent status {state}").returncode, "the agent to connect", 60, product)
    assert answer(product, f"towline agent status {state}")["connected"] is True
    done = product.run(f"towline agent doctor {state} -o json")
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {"identity", "policy", "dns", "tcp", "tls", "upgrade", "protocol", "clock", "compose"} <= checks.keys()
    assert not checks["compose"]["ok"]
    assert "none.sock" in checks["compose"]["text"]
    assert done.returncode == 0, "the link is well, though Docker is not"
    sign_in(product)
    (cluster,) = answer(product, "towline clusters")
    assert "Docker" in cluster["health"]["reason"]
    product.stop()
    done = product.run(f"towline agent doctor {state}")
    assert done.returncode == 1
    assert "tcp" in done.stdout
    assert product.run(f"towline agent status {state}").returncode == 5


def test_ctrl_c_right_after_the_start_ends_it_without_a_complaint(tmp_path: Path) -> None:
    product = Product(tmp_path)
    product.start()
    assert product.stop() == 0
    assert "error" not in product.text
    assert "could not join" not in product.text
