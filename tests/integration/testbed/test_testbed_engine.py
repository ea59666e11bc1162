"""The private engine survives being killed, and leaves nothing behind."""

import pytest
from tests.testbed import engine, images
from tests.testbed.engine import PrivateEngine

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

    running = images.docker("ps", "--no-trunc", "--quiet", host=private_engine.host)
    assert running == started


def test_private_engine_shows_nothing_of_the_machines_own(private_engine: PrivateEngine) -> None:
    assert images.docker("images", "--quiet", host=private_engine.host) == ""
