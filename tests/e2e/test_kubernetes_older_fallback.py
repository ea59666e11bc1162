"""kubectl through a PipeOps agent without yamux: the same commands straight and through Towline, and what it cannot do.

The agent is a played one (`tests/support/pipeops_carrier.py`) with the losses that the real one has; the control plane
is the shipped command, with our own agent's code in the older one's place.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support import differential
from tests.support import kubernetes_objects as objects
from tests.support.differential import Command, Sides
from tests.support.differential_commands import GROUPS, READS, REFUSED, WRITES
from tests.support.kube_agent import make_agent_account
from tests.support.kubectl_streams import Forward, a_shell_ends_with_its_code, a_shell_follows_its_terminal, terminal
from tests.support.kubernetes_stack import Stack, User
from tests.support.pipeops_agent import agent
from tests.support.pipeops_carrier import Carrier
from tests.support.product import wait_for
from tests.testbed.kubectl import NEWEST

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(120)]

OLDER = "older"
MEBIBYTE = 1024 * 1024
NAMESPACES = ("k8-older-a", "k8-older-b")
DIFFERENT = ("/nowhere", "missing-program")
"""A path that the agent would take to the ingress controller; and a command that is not there, which the API server's
own translation of channels words in another way than the kubelet does."""
ALWAYS = ("exec", "logs", "-w", "wait", "rollout", "--raw", "top", "auth")
EVERY = 4
"""Of the others every fourth, which reads by the same code."""
TALKER = ("-n", "k8-read")


def chosen() -> list[Command]:
    usable = [one for one in READS if one.asks and not set(one.words) & set(DIFFERENT)]
    return [one for number, one in enumerate(usable) if set(one.words) & set(ALWAYS) or number % EVERY == 0]


SINGLES = chosen()
NOT_ALLOWED = [one for one in REFUSED if one.words[-1] == "true" or "secrets" in one.words]


class OlderAgent:
    """The played agent in a thread of its own."""

    def __init__(self, stack: Stack, token: str) -> None:
        self._stack = stack
        self._token = token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.carrier: Carrier | None = None

    def __enter__(self) -> OlderAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.carrier is not None:
            self._loop.call_soon_threadsafe(self.carrier.played.writer.close)
        self._thread.join(20)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        account = make_agent_account(self._stack.admin, self._stack.namespace, inventory=True)
        async with agent(self._stack.port, self._token, self._stack.trust()) as played:
            self.carrier = Carrier(played, self._stack.cluster, account, speaks_yamux=False)
            await self.carrier.run()


@pytest.fixture(scope="module")
def older(stack: Stack) -> Iterator[Carrier]:
    """An agent without yamux, whose registered token may be used."""
    with stack.http(stack.owner.token) as client:
        made = client.post("/api/v1/compat/tokens", json={"protocol": "pipeops", "cluster": OLDER})
        assert made.status_code == 201, made.text
        with OlderAgent(stack, made.json()["token"]) as running:
            wait_for(lambda: stack.is_connected(OLDER), "the older agent", 30)
            answer = client.put(f"/api/v1/clusters/{OLDER}/registered-token", json={"allowed": True})
            assert answer.status_code == 200, answer.text
            wait_for(lambda: stack.is_served(OLDER), f"its cluster; the log:\n{stack.log('server')}", 30)
            assert running.carrier is not None
            yield running.carrier
        client.delete(f"/api/v1/clusters/{OLDER}")


def make_sides(stack: Stack, user: User) -> Sides:
    direct = stack.direct(user.identity, GROUPS, NEWEST)
    sides = Sides(direct, user.client(NEWEST, cluster=OLDER), user.identity, frozenset(GROUPS), stack.account)
    for client in (sides.direct, sides.through):
        client.succeed("get", "configmaps", "-n", "k8-read")
    return sides


@pytest.fixture(scope="module")
def sides(stack: Stack, older: Carrier, ada: User, seeded: str) -> Sides:
    return make_sides(stack, ada)


@pytest.fixture(scope="module")
def sides_of_val(stack: Stack, older: Carrier, seeded: str) -> Sides:
    """An admin of Towline whom the cluster itself lets see some things only."""
    return make_sides(stack, stack.user("k8val", "admin", bound_to="view"))


@pytest.fixture(scope="module")
def pair(stack: Stack) -> Iterator[tuple[str, str]]:
    with stack.empty_namespace(NAMESPACES[0]) as one, stack.empty_namespace(NAMESPACES[1]) as two:
        yield one, two


STORIES = ("configmaps", "server side", "pods")


def test_at_least_fifty_commands_are_compared() -> None:
    assert len(SINGLES) + sum(len(WRITES[story]) for story in STORIES) >= 50


@pytest.mark.parametrize("number", range(len(SINGLES)), ids=lambda number: SINGLES[number].name)
def test_what_is_read_is_the_same_without_yamux(number: int, sides: Sides, stack: Stack) -> None:
    differential.compare(sides, SINGLES[number], stack.audit_log, namespaces=("k8-read", "k8-read"))


@pytest.mark.parametrize("number", range(len(NOT_ALLOWED)), ids=lambda number: NOT_ALLOWED[number].name)
def test_what_the_cluster_refuses_is_refused_in_its_words(number: int, sides_of_val: Sides, stack: Stack) -> None:
    differential.compare(sides_of_val, NOT_ALLOWED[number], stack.audit_log, namespaces=("k8-read", "k8-read"))


@pytest.mark.parametrize("story", STORIES)
def test_what_is_written_is_the_same_without_yamux(
    story: str, sides: Sides, pair: tuple[str, str], stack: Stack
) -> None:
    for command in WRITES[story]:
        differential.compare(sides, command, stack.audit_log, namespaces=pair)


def test_everything_went_by_messages(sides: Sides, older: Carrier) -> None:
    assert older.dialled == [] and older.dropped == 0
    assert any(path.endswith("/exec") for path in older.asked) or older.asked


def test_a_file_goes_there_and_back(sides: Sides, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2048
    (tmp_path / "there").write_bytes(content)
    sides.through.succeed(*TALKER, "cp", str(tmp_path / "there"), "talker:/tmp/older-fallback", "-c", "main")
    sides.through.succeed(*TALKER, "cp", "talker:/tmp/older-fallback", str(tmp_path / "back"), "-c", "main")
    assert (tmp_path / "back").read_bytes() == content


def test_a_shell_on_a_terminal_has_its_size_its_keys_and_its_end(sides: Sides) -> None:
    with terminal(sides.through, *TALKER, "exec", "-it", "talker", "-c", "main", "--", "sh") as screen:
        a_shell_follows_its_terminal(screen)
        a_shell_ends_with_its_code(screen)


def test_a_forwarded_port_carries_bytes_both_ways(stack: Stack, sides: Sides, pair: tuple[str, str]) -> None:
    pod = objects.pod("echo", "nc", "-ll", "-p", "7000", "-e", "cat")
    pod["spec"]["containers"][0]["readinessProbe"] = {"tcpSocket": {"port": 7000}, "periodSeconds": 1}
    objects.apply(stack.direct(), pair[0], pod)
    objects.wait_for_pods(stack.direct(), pair[0], "pod/echo")
    data = os.urandom(MEBIBYTE)
    with Forward(sides.through, pair[0], "echo", 7000) as forward, ThreadPoolExecutor(2) as threads:
        small, large = threads.map(lambda each: forward.echo(7000, each), (b"small", data))
    assert small == b"small"
    assert hashlib.sha256(large).digest() == hashlib.sha256(data).digest()


def test_a_watch_goes_on_where_it_is_asked_again_and_ends_cleanly(sides: Sides, older: Carrier) -> None:
    done = sides.through.run(*TALKER, "wait", "--for=jsonpath={.status.phase}=None", "pod/talker", "--timeout=2s")
    assert done.returncode == 1 and "timed out" in done.stderr


def test_a_followed_log_that_is_cut_says_why(sides: Sides, older: Carrier) -> None:
    older.cut_after = 1.5
    try:
        done = sides.through.run(*TALKER, "logs", "-f", "talker", "-c", "main")
    finally:
        older.cut_after = 30.0
    assert "ends every request after 30 s" in done.stdout


def test_an_older_kubectl_is_told_what_to_use_instead(stack: Stack, ada: User, older: Carrier, seeded: str) -> None:
    client = ada.client("1.28", cluster=OLDER)
    client.fail(*TALKER, "exec", "talker", "-c", "main", "--", "true", says="kubectl 1.31")
