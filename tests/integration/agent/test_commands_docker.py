"""Commands of docker and compose, done by an agent on the real engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.agent_host import AgentHost, agent_host, docker
from tests.support.command_host import command, ended, run
from tests.testbed import images

from towline.agent.policy import CommandRules, ComposeRules, LocalPolicy

pytestmark = pytest.mark.docker

PROJECT = f"commands{secrets.token_hex(3)}"
WEB, DB = f"{PROJECT}-web-1", f"{PROJECT}-db-1"


@pytest.fixture(scope="module")
def project(docker_engine: str) -> Iterator[str]:
    """Two containers that look like Compose's."""
    for name, service in ((WEB, "web"), (DB, "db")):
        labels = (
            f"com.docker.compose.project={PROJECT}", f"com.docker.compose.service={service}",
            "com.docker.compose.container-number=1", "com.docker.compose.oneoff=False",
        )  # fmt: skip
        options = [word for label in labels for word in ("--label", label)]
        script = f"echo {service} says; echo wrong >&2; exec sleep 100000"
        images.docker("run", "-d", "--name", name, "--stop-signal", "KILL", *options, images.BASE, "sh", "-c", script)
    yield PROJECT
    images.docker("rm", "-f", "-v", WEB, DB)


@pytest.fixture
async def host(project: str, tmp_path: Path) -> AsyncIterator[AgentHost]:
    async with agent_host(tmp_path) as host:
        yield host


async def test_containers_are_listed(host: AgentHost) -> None:
    ran = await run(host, "docker", "ps", "--filter", f"name={PROJECT}")
    assert ran.outcome == ("succeeded", "")
    assert ran.lines[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert sorted(line.split()[-1] for line in ran.lines[1:]) == [DB, WEB]
    ids = (await run(host, "docker", "ps", "-q", "--filter", f"name={WEB}")).lines
    assert ids == docker("ps", "-q", "--filter", f"name={WEB}").splitlines()
    told = json.loads((await run(host, "docker", "ps", "--format", "json", "--filter", f"name={WEB}")).out)
    assert told["Names"] == WEB
    assert "invalid filter" in (await run(host, "docker", "ps", "--filter", "colour=red")).err


async def test_a_project_is_listed_by_service(host: AgentHost) -> None:
    ran = await run(host, "compose", "ps", project=PROJECT)
    assert [line.split()[0] for line in ran.lines] == ["NAME", DB, WEB] or sorted(
        line.split()[0] for line in ran.lines[1:]
    ) == [DB, WEB]
    assert (await run(host, "compose", "-p", PROJECT, "ps", "-q", "web")).lines == docker(
        "ps", "-q", "--filter", f"name={WEB}"
    ).splitlines()


async def test_logs_keep_both_outputs_apart(host: AgentHost) -> None:
    ran = await run(host, "docker", "logs", WEB)
    assert (ran.out, ran.err) == ("web says\n", "wrong\n")
    both = await run(host, "compose", "logs", "--tail", "5", project=PROJECT)
    assert sorted(both.lines) == [f"{DB} | db says", f"{WEB} | web says"]
    stamped = await run(host, "docker", "logs", "-t", WEB)
    assert stamped.out.endswith("Z web says\n")
    missing = await run(host, "docker", "logs", f"{PROJECT}-nothing")
    assert missing.outcome == ("failed", "command_exit")


async def test_a_followed_log_is_cancelled(host: AgentHost) -> None:
    job_id = await host.submit("command.run", command("docker", "logs", "-f", WEB), timeout=600)
    await host.said(job_id, "web says")
    host.runner.cancel(job_id)
    assert (await ended(host, job_id)).outcome == ("cancelled", "cancelled")


async def test_a_service_is_stopped_started_and_restarted(host: AgentHost) -> None:
    def began() -> str:
        return docker("inspect", "-f", "{{.State.Running}} {{.State.StartedAt}}", WEB)

    first = began()
    assert (await run(host, "compose", "stop", "web", "-t", "1", project=PROJECT)).lines == [WEB]
    assert began().startswith("false")
    assert (await run(host, "compose", "start", "web", project=PROJECT)).outcome == ("succeeded", "")
    second = began()
    assert second.startswith("true")
    assert second != first
    assert (await run(host, "docker", "restart", "-t", "1", WEB)).lines == [WEB]
    assert began() != second
    assert docker("inspect", "-f", "{{.RestartCount}}", DB) == "0"
    wrong = await run(host, "compose", "restart", "nothing", project=PROJECT)
    assert (wrong.outcome, wrong.err) == (("failed", "command_exit"), "no such service: nothing\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("images",), "REPOSITORY"),
        (("inspect", WEB), f'"Name": "/{WEB}"'),
        (("inspect", images.BASE), '"RepoTags"'),
        (("stats", "--no-stream", WEB), WEB),
        (("top", WEB), "sleep"),
        (("version",), "ApiVersion: "),
        (("info",), "ServerVersion: "),
        (("info", "--format", "json"), '"Driver":'),
        (("system", "df"), "Local Volumes"),
    ],
    ids=lambda given: given[0] if isinstance(given, tuple) else "shown",  # names are others in each worker
)
async def test_the_engine_is_looked_at(host: AgentHost, arguments: tuple[str, ...], words: str) -> None:
    ran = await run(host, "docker", *arguments)
    assert ran.outcome == ("succeeded", ""), ran
    assert words in ran.out


@pytest.mark.parametrize(
    "policy",
    [
        LocalPolicy(commands=CommandRules(containers=("other",))),
        LocalPolicy(compose=ComposeRules(projects=("other",))),
    ],
)
async def test_projects_that_the_owner_keeps_are_not_reached(host: AgentHost, policy: LocalPolicy) -> None:
    host.policy = policy
    assert PROJECT not in (await run(host, "docker", "ps")).out
    for arguments in (("logs", WEB), ("inspect", WEB), ("restart", WEB)):
        ran = await run(host, "docker", *arguments)
        assert ran.outcome == ("refused", "forbidden"), arguments
        assert "keeps the containers of" in ran.result.error
    assert (await run(host, "compose", "ps", project=PROJECT)).outcome == ("refused", "forbidden")


async def test_nothing_is_restarted_where_commands_only_read(host: AgentHost) -> None:
    host.policy = LocalPolicy(commands=CommandRules(read_only=True))
    assert (await run(host, "docker", "restart", WEB)).outcome == ("refused", "forbidden")
