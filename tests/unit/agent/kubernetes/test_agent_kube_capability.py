"""The capability `kubernetes`: ready with its version, or the reason with the fix."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from towline.agent.docker.engine import Engine
from towline.agent.errors import KubernetesAbsent, KubernetesError
from towline.agent.host.capabilities import Capabilities
from towline.agent.policy import KubernetesRules, LocalPolicy
from towline.aio.clock import SimulatedClock
from towline.wire import link


async def no_compose() -> None:
    return None


def answering(*answers: str | Exception) -> Callable[[], Awaitable[str]]:
    left = list(answers)

    async def find() -> str:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return find


class Looking:
    """A host without Docker whose capabilities are looked at again and again."""

    def __init__(self, folder: Path, *answers: str | Exception, policy: LocalPolicy | None = None) -> None:
        self.clock = SimulatedClock()
        self.all = Capabilities(
            Engine(f"unix://{folder}/none.sock"),
            no_compose,
            lambda: policy or LocalPolicy(),
            find_kubernetes=answering(*answers),
            clock=self.clock,
        )

    async def look(self) -> link.Capability:
        await self.all.look()
        return next(each for each in self.all.current if each.name == "kubernetes")


async def test_answering_api_server_makes_it_ready(tmp_path: Path) -> None:
    looking = Looking(tmp_path, "v1.36.3")
    found = await looking.look()
    assert (found.ready, found.version, looking.all.versions["kubernetes"]) == (True, "v1.36.3", "v1.36.3")


async def test_reason_is_kept_with_the_moment_since_when(tmp_path: Path) -> None:
    away = KubernetesError("the API server at 10.0.0.1:6443 cannot be reached: connection refused")
    looking = Looking(tmp_path, "v1.36.3", away, away, "v1.36.3")
    await looking.look()
    await looking.clock.advance(20)
    first = await looking.look()
    await looking.clock.advance(20)
    second = await looking.look()
    assert (first.ready, first.reason) == (False, str(away))
    assert second.since == first.since
    assert "kubernetes" not in looking.all.versions
    assert (await looking.look()).ready


async def test_host_without_a_kubeconfig_says_so(tmp_path: Path) -> None:
    found = await Looking(tmp_path, KubernetesAbsent("no kubeconfig")).look()
    assert (found.ready, found.reason) == (False, "no kubeconfig")


@pytest.mark.parametrize(
    "policy", [LocalPolicy(capabilities=("compose",)), LocalPolicy(kubernetes=KubernetesRules(enabled=False))]
)
async def test_policy_switches_it_off_without_a_look(tmp_path: Path, policy: LocalPolicy) -> None:
    found = await Looking(tmp_path, policy=policy).look()
    assert (found.ready, found.reason) == (False, "the policy of this host does not allow it")
