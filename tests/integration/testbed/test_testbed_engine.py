"""The private engine survives being killed, and leaves nothing behind."""

import urllib.request
from pathlib import Path

import pytest
from tests.testbed import engine, images, processes
from tests.testbed.engine import PrivateEngine

PROJECT = f"""
name: towline-private-probe
services:
  web:
    image: {images.WEB}
    stop_signal: KILL
    ports: ["127.0.0.1:PORT:80"]
    healthcheck: {{test: [CMD, wget, -q, -O, /dev/null, "http://127.0.0.1/"], interval: 1s, retries: 10}}
"""

pytestmark = [pytest.mark.docker, pytest.mark.root]


def test_container_with_a_restart_policy_is_back_after_the_engine_was_killed(private_engine: PrivateEngine) -> None:
    images.make("probe:1", command=["/bin/sleep", "1000"], host=private_engine.host)
    run = [
        "run",
        "--detach",
        "--stop-signal",
        "KILL",
        "--net",
        "none",
        "--restart",
        "always",
        "--name",
        "probe",
        "probe:1",
    ]
    started = images.docker(*run, host=private_engine.host)
    private_engine.kill()
    assert not engine.answers(private_engine.host)

    private_engine.start()

    assert Path("/sys/class/net/docker0").exists()
    running = images.docker("ps", "--no-trunc", "--quiet", host=private_engine.host)
    assert running == started


def test_what_a_killed_run_left_is_removed_and_nothing_else(private_engine: PrivateEngine) -> None:
    host = private_engine.host
    images.ensure(host)
    images.make("somebodys:1", host=host)
    for image in (images.BASE, "somebodys:1"):
        images.docker(
            "create", "--name", image.partition(":")[0].replace("/", "-"), "--net", "none", image, "x", host=host
        )
    engine.remove_leftovers(host)
    assert images.docker("ps", "--all", "--format", "{{.Names}}", host=host) == "somebodys"


def test_private_engine_leaves_the_machines_own_alone(docker_engine: str, private_engine: PrivateEngine) -> None:
    assert images.docker("images", "--quiet", host=private_engine.host) == ""
    assert images.docker("run", "--rm", images.BASE, "echo", "undisturbed") == "undisturbed"


def test_private_engine_runs_projects_with_networks_and_ports(private_engine: PrivateEngine, tmp_path: Path) -> None:
    images.ensure(private_engine.host)
    port = processes.free_port()
    compose = tmp_path / "compose.yaml"
    compose.write_text(PROJECT.replace("PORT", str(port)))
    images.docker("compose", "--file", str(compose), "up", "--detach", "--wait", host=private_engine.host)

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
        assert answer.read() == images.WEB_PAGE
