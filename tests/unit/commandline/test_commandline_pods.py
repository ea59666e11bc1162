"""Pods of manifests held against the policy of a host."""

from typing import Any

import pytest

from towline.commandline.pods import makes_pods, violations
from towline.commandline.reading import parse
from towline.compose import policy

USUAL = policy.local()


def manifest(spec: str, *, kind: str = "Pod") -> str:
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"


def found(text: str, granted: policy.Policy = USUAL, **more: Any) -> list[str]:
    plan = parse("kubectl", ["apply", "-f", "-"], stdin=text)
    return list(violations(plan.manifests, granted, **more))


def test_an_ordinary_pod_is_allowed() -> None:
    assert found(manifest("{containers: [{name: main, image: nginx}]}")) == []


@pytest.mark.parametrize(
    "spec",
    [
        "{containers: [{name: main, image: x, securityContext: {privileged: true}}]}",
        "{initContainers: [{name: main, image: x, securityContext: {privileged: true}}]}",
        "{containers: [{name: main, image: x, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}",
        "{hostNetwork: true, containers: [{name: main, image: x}]}",
        "{hostPID: true, containers: [{name: main, image: x}]}",
        "{hostIPC: true, containers: [{name: main, image: x}]}",
        "{containers: [{name: main, image: x, securityContext: {procMount: Unmasked}}]}",
        "{containers: [{name: main, image: x, securityContext: {seccompProfile: {type: Unconfined}}}]}",
        "{securityContext: {sysctls: [{name: kernel.panic, value: '1'}]}, containers: [{name: main, image: x}]}",
        "{securityContext: {windowsOptions: {hostProcess: true}}, containers: [{name: main, image: x}]}",
        "{volumes: [{name: v, hostPath: {path: /var/run/docker.sock}}],"
        " containers: [{name: main, image: x, volumeMounts: [{name: v, mountPath: /s}]}]}",
        "{volumes: [{name: v, hostPath: {path: /}}],"
        " containers: [{name: main, image: x, volumeMounts: [{name: v, mountPath: /host}]}]}",
    ],
)
def test_a_pod_that_reaches_into_its_node_is_not(spec: str) -> None:
    assert found(manifest(spec))


def test_the_policy_of_the_host_widens_and_narrows() -> None:
    spec = "{containers: [{name: main, image: nginx, securityContext: {privileged: true}}]}"
    assert found(manifest(spec), policy.local(privileged=True)) == []
    assert found(manifest("{containers: [{name: m, image: evil}]}"), policy.local(images=("nginx",)))


def test_folders_of_the_agent_are_never_mounted() -> None:
    spec = (
        "{volumes: [{name: v, hostPath: {path: /var/lib/towline-agent}}],"
        " containers: [{name: main, image: x, volumeMounts: [{name: v, mountPath: /s}]}]}"
    )
    granted = policy.local(privileged=True)
    assert found(manifest(spec), granted) == []
    assert found(manifest(spec), granted, protected=("/var/lib/towline-agent",))


def test_templates_of_workloads_are_looked_into() -> None:
    bad = "{containers: [{name: main, image: x, securityContext: {privileged: true}}]}"
    deployment = f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: a}}\nspec: {{template: {{spec: {bad}}}}}\n"
    job = f"{{jobTemplate: {{spec: {{template: {{spec: {bad}}}}}}}}}"
    cron = f"apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: a}}\nspec: {job}\n"
    assert found(deployment)[0].startswith("deployment.apps/a: container main: ")
    assert found(cron)


def test_what_runs_nothing_is_not_looked_at() -> None:
    plan = parse("kubectl", ["apply", "-f", "-"], stdin=manifest("{a: 1}", kind="Service"))
    assert not makes_pods(plan.manifests[0])
    assert found(manifest("{containers: 5, volumes: {}}")) == []
