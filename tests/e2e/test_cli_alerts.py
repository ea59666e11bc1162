"""`towline alerts` against a running product: rules, channels, silences, and what fires."""

import json
from collections.abc import Iterator

import pytest
from tests.support.product import PASSWORD, Product


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("alerts")
    with Product(folder) as running:
        running.set_up("ada")
        (folder / "password").write_text(PASSWORD)
        done = running.run(f"towline login {running.url} --user ada --password-file password")
        assert done.returncode == 0, done.stderr
        yield running


def test_nothing_fires_on_a_new_server(product: Product) -> None:
    done = product.run("towline alerts")
    assert done.returncode == 0 and "no alerts" in done.stderr
    assert product.run("towline alerts show alr_none").returncode == 4


def test_a_rule_is_shown_and_changed(product: Product) -> None:
    words = "--after 10m --clear 3m --threshold 20 --severity critical"
    done = product.run(f"towline alerts rule disk_full {words} -o json")
    assert done.returncode == 0, done.stderr
    (rule,) = json.loads(done.stdout)
    assert (rule["after_seconds"], rule["clear_seconds"]) == (600, 180)
    assert (rule["threshold"], rule["severity"]) == (20, "critical")
    listed = product.run("towline alerts rules").stdout
    assert "agent_away" in listed and "after 600 s, until 180 s without it, 20 % free" in listed
    back = json.loads(product.run("towline alerts rule disk_full --threshold usual --off -o json").stdout)[0]
    assert (back["threshold"], back["enabled"]) == (10, False)
    wrong = product.run("towline alerts rule disk_full --after soon")
    assert wrong.returncode == 2 and "10m" in wrong.stderr


def test_a_webhook_is_added_tried_and_removed_and_its_address_is_no_argument(product: Product) -> None:
    (product.folder / "url").write_text("http://127.0.0.1:1/very-secret-path")
    made = product.run("towline alerts add-webhook pager --url-file url")
    assert made.returncode == 0 and made.stdout.startswith("tww_"), made.stderr
    tried = product.run("towline alerts test pager")
    assert tried.returncode == 1 and "outgoing_networks" in tried.stderr
    listed = product.run("towline alerts channels").stdout
    assert "http://127.0.0.1:1/…" in listed and "outgoing_networks" in listed and "very-secret" not in listed
    assert product.run("towline alerts channel pager --off").returncode == 0
    assert product.run("towline alerts rm-channel pager --yes").returncode == 0
    assert product.run("towline alerts test pager").returncode == 4


def test_mail_is_added_with_a_password_from_a_file(product: Product) -> None:
    done = product.run(
        "towline alerts add-email ops --to ops@example.com --to night@example.com --from towline@example.com "
        "--host mail.example.com --user towline --password-file password -o json"
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["signs_in"] and made["recipients"] == ["ops@example.com", "night@example.com"]
    assert PASSWORD not in done.stdout


def test_a_silence_is_made_listed_and_ended(product: Product) -> None:
    made = json.loads(product.run('towline alerts silence --rule crash_loop --for 2h --why "new disks" -o json').stdout)
    listed = product.run("towline alerts silences").stdout
    assert made["id"] in listed and "new disks" in listed and "everywhere" in listed
    assert product.run(f"towline alerts unsilence {made['id']}").returncode == 0
    assert "nothing is silenced" in product.run("towline alerts silences").stderr
