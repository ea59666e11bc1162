"""The shipped images build from this tree, and hold what they must and nothing that they must not."""

import json

import pytest
from tests.testbed import bases, images, paths

pytestmark = [pytest.mark.docker, pytest.mark.root, pytest.mark.timeout(600)]

AGENT = "towline-test/agent:1"
SERVER = "towline-test/server:1"
SERVER_ONLY = ("fastapi", "sqlalchemy", "sqlmodel", "alembic", "asyncpg", "uvicorn", "argon2")


@pytest.fixture(scope="module")
def agent_image(base_images: str) -> str:
    bases.build(paths.PROJECT / "build" / "Dockerfile.agent", AGENT)
    return AGENT


def run(image: str, *words: str, program: str) -> str:
    return images.docker("run", "--rm", "--network", "none", "--entrypoint", program, image, *words)


def test_agent_image_carries_compose_2(agent_image: str) -> None:
    version = json.loads(run(agent_image, "compose", "version", "--format", "json", program="docker"))
    assert version["version"].lstrip("v").startswith("2.")


def test_agent_image_carries_no_server_dependency(agent_image: str) -> None:
    look = f"import importlib.util as u; print([n for n in {SERVER_ONLY!r} if u.find_spec(n)])"
    assert run(agent_image, "-c", look, program="python3") == "[]"


def test_agent_image_answers_to_the_agents_commands(agent_image: str) -> None:
    assert "doctor" in run(agent_image, "agent", "--help", program="towline")


@pytest.mark.soak
def test_server_image_runs_as_nobody_special_and_answers(base_images: str) -> None:
    bases.build(paths.PROJECT / "build" / "Dockerfile.server", SERVER)
    assert run(SERVER, "-u", program="id") == "10001"
    assert "backup" in run(SERVER, "server", "--help", program="towline")
