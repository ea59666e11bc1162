"""`towline certs` against a running product: what is listed, uploaded, shown, forgotten, and what to trust."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.support.product import PASSWORD, Product

from towline.control.authority import certificates

HOST = "shop.example.test"
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("certs")
    with Product(folder, environment={"TOWLINE_SERVER_HOSTNAMES": HOST}) as running:
        running.set_up("ada")
        (folder / "password").write_text(PASSWORD)
        done = running.run(f"towline login {running.url} --user ada --password-file password")
        assert done.returncode == 0, done.stderr
        yield running


def brought(folder: Path, name: str = "brought") -> None:
    root_key, key = certificates.new_key(), certificates.new_key()
    root = certificates.new_authority(root_key, NOW)
    made = certificates.new_server(key, [HOST], root, root_key, NOW)
    (folder / f"{name}.pem").write_bytes(certificates.chain_pem(made, root))
    (folder / f"{name}.key").write_bytes(certificates.key_pem(key))


def test_nothing_is_listed_before_anything_is_published(product: Product) -> None:
    done = product.run("towline certs")
    assert done.returncode == 0 and "publish a route first" in done.stderr


def test_a_certificate_is_uploaded_shown_and_forgotten(product: Product) -> None:
    brought(product.folder)
    done = product.run("towline certs upload brought.pem --key - < brought.key")
    assert done.returncode == 0 and "served until" in done.stderr, done.stderr
    listed = json.loads(product.run("towline certs -o json").stdout)
    assert [(entry["name"], entry["state"], entry["source"]) for entry in listed] == [(HOST, "issued", "upload")]
    assert "89 days" in product.run(f"towline certs show {HOST}").stdout
    refused = product.run(f"towline certs renew {HOST}")
    assert refused.returncode == 1 and "uploading the next one" in refused.stderr
    assert product.run(f"towline certs rm {HOST} --yes").returncode == 0
    missing = product.run(f"towline certs show {HOST}")
    assert missing.returncode == 4 and "certificate" in missing.stderr


def test_a_key_that_does_not_fit_is_refused_in_words(product: Product) -> None:
    brought(product.folder, "one")
    brought(product.folder, "two")
    done = product.run("towline certs upload one.pem --key two.key")
    assert done.returncode == 2 and "does not fit" in done.stderr


def test_the_servers_own_authority_is_printed_for_who_wants_to_trust_it(product: Product) -> None:
    done = product.run("towline certs trust --print")
    assert done.returncode == 0 and done.stdout.startswith("-----BEGIN CERTIFICATE-----")
    asked = product.run("towline certs trust")
    assert asked.returncode == 2 and "--yes" in asked.stderr
