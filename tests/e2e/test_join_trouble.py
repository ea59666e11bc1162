"""Joining and running where something is wrong: a copied identity, bad tokens, another authority, a clock an hour off.

Each has its own clear message on both sides.
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import FAILED, answer, fail, succeed
from tests.support.product import Product, wait_for

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]
WRONG_PIN = "sha256:" + "1" * 64


def address(product: Product) -> str:
    return product.text.split("Towline runs at", 1)[1].split()[0]


def join(product: Product, state: Path, made: dict[str, Any], *, pin: str = "") -> str:
    """The command that joins a state folder with a token."""
    token = state.parent / f"{state.name}.token"
    token.write_text(made["token"])
    return (
        f"towline agent join --server {address(product)} --fingerprint {pin or made['fingerprint']}"
        f" --state-folder {state} --token-file {token}"
    )


@contextmanager
def running(product: Product, state: Path, *before: str) -> Iterator[None]:
    """An agent in a process of its own; `before` stands before its command."""
    with (state / "log").open("ab") as log:
        process = subprocess.Popen(
            [*before, "towline", "agent", "run", "--state-folder", state], env=product.environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def health(product: Product, name: str) -> dict[str, Any]:
    return dict(answer(product, f"towline clusters show {name}")["health"])


def refusals(product: Product) -> str:
    return str([event["reason"] for event in answer(product, "towline audit --result refused --action agent.enrol")])


def test_two_hosts_with_one_copied_identity_are_found_out(shop: Product, tmp_path: Path) -> None:
    made = answer(shop, "towline join-token create --cluster twin")
    first, second = tmp_path / "first", tmp_path / "second"
    succeed(shop, join(shop, first, made))
    shutil.copytree(first, second)
    try:
        with running(shop, first):
            wait_for(lambda: not shop.run(f"towline agent status --state-folder {first}").returncode, "the first agent")
            with running(shop, second):
                reason = wait_for(
                    lambda: "cop" in (seen := health(shop, "twin"))["reason"] and seen["reason"], "the server to see it"
                )
                wait_for(
                    lambda: "cop" in shop.run(f"towline agent status --state-folder {second} -o json").stdout,
                    "the copy to say so",
                )
        assert reason
    finally:
        shop.run("towline clusters remove twin --yes")


def test_each_bad_token_has_its_own_words_on_both_sides(shop: Product, tmp_path: Path) -> None:
    used, revoked, expired = (answer(shop, f"towline join-token create --cluster t{n}") for n in range(3))
    succeed(shop, join(shop, tmp_path / "good", used))
    shop.run("towline clusters remove t0 --yes")
    fail(shop, join(shop, tmp_path / "used", used), FAILED, "used")
    succeed(shop, f"towline join-token revoke {revoked['id']}")
    fail(shop, join(shop, tmp_path / "revoked", revoked), FAILED, "revoked")
    database = sqlite3.connect(shop.folder / "up" / "server" / "towline.sqlite", timeout=30)
    with database:
        database.execute(
            "UPDATE join_token SET expires_at = '2020-01-01 00:00:00.000000' WHERE id = ?", [expired["id"]]
        )
    database.close()
    fail(shop, join(shop, tmp_path / "expired", expired), FAILED, "expired")
    mistyped = expired | {"token": expired["token"][:-1] + ("a" if expired["token"][-1] != "a" else "b")}
    fail(shop, join(shop, tmp_path / "mistyped", mistyped), FAILED)
    said = refusals(shop)
    assert all(word in said for word in ("used", "revoked", "expired")), said


def test_another_authority_gets_no_token(shop: Product, tmp_path: Path) -> None:
    made = answer(shop, "towline join-token create --cluster lured")
    said = fail(
        shop, join(shop, tmp_path / "lured", made, pin=WRONG_PIN), FAILED, "no certificate with the pinned fingerprint"
    )
    assert made["token"] not in said
    (token,) = [each for each in answer(shop, "towline join-token") if each["id"] == made["id"]]
    assert token["used"] == 0
    succeed(shop, f"towline join-token revoke {made['id']}")


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
@pytest.mark.parametrize(("shift", "way"), [("+1h", "ahead"), ("-1h", "behind")])
def test_a_clock_an_hour_off_is_said_on_both_sides(shop: Product, tmp_path: Path, shift: str, way: str) -> None:
    made = answer(shop, "towline join-token create --cluster late")
    off = f"env DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 faketime -f {shift}"
    done = shop.run(f"{off} {join(shop, tmp_path / 'late', made)}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"clock is -?3[56]\d\d s off", done.stderr), done.stderr
    try:
        with running(shop, tmp_path / "late", *off.split()):
            shown = wait_for(
                lambda: way in (text := succeed(shop, "towline link show late")) and text, "the server to see it"
            )
            assert "clock" in shown
            doctor = shop.run(f"{off} towline agent doctor --state-folder {tmp_path / 'late'}")
            assert f"{way} the server's" in doctor.stdout.replace("ahead of", "ahead")
    finally:
        shop.run("towline clusters remove late --yes")


def test_an_agent_whose_cluster_was_removed_ends_and_doctor_says_why(shop: Product, tmp_path: Path) -> None:
    made = answer(shop, "towline join-token create --cluster gone")
    state = tmp_path / "gone"
    succeed(shop, join(shop, state, made))
    with running(shop, state):
        wait_for(lambda: not shop.run(f"towline agent status --state-folder {state}").returncode, "the agent")
        succeed(shop, "towline clusters remove gone --yes")
        said = wait_for(
            lambda: "removed" in (text := shop.run(f"towline agent doctor --state-folder {state}").stdout) and text,
            "doctor to know it",
        )
    assert "removed" in said
