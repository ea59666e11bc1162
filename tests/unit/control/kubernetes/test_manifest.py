"""What a manifest holds: a pod that may nothing, a token in one place, and options that cannot smuggle."""

from dataclasses import replace
from typing import Any

import pytest
import yaml

from towline.agent.surface.tokens import LONGEST, SHORTEST
from towline.control.kubernetes.manifest import Place, objects, render
from towline.control.kubernetes.manifest_local import LocalTokens, minted
from towline.control.kubernetes.options import BadOption, Options, Toleration
from towline.control.kubernetes.profiles import Profile

TOKEN = "twj_secret"
PIN = "sha256:" + "a" * 64
PLACE = Place("prod", "https://towline.example:8443", (PIN,), TOKEN)
OPTIONS = Options(image="registry.example/towline-agent:1")


def found(kind: str, options: Options = OPTIONS, name: str = "") -> Any:
    return next(one for one in objects(options, PLACE) if one["kind"] == kind and name in one["metadata"]["name"])


def pod(options: Options = OPTIONS) -> Any:
    return found("Deployment", options)["spec"]["template"]["spec"]


def container(options: Options = OPTIONS) -> Any:
    return pod(options)["containers"][0]


def test_the_yaml_reads_back_as_the_objects() -> None:
    assert list(yaml.safe_load_all(render(OPTIONS, PLACE))) == objects(OPTIONS, PLACE)


def test_the_pod_fits_the_restricted_security_standard() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] != 0
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {volume for each in pod()["volumes"] for volume in each} == {"name", "emptyDir", "secret"}
    assert "hostNetwork" not in pod()


def test_the_pod_has_no_service_links_and_has_bounds_and_probes() -> None:
    assert pod()["enableServiceLinks"] is False
    assert set(container()["resources"]) == {"requests", "limits"}
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container())


def test_the_token_stands_in_the_join_secret_and_nowhere_else() -> None:
    holders = [one["metadata"]["name"] for one in objects(OPTIONS, PLACE) if TOKEN in repr(one)]
    assert holders == ["towline-agent-join"]
    assert TOKEN not in repr(PLACE)


def test_a_proxy_with_a_password_stands_in_a_secret_and_is_not_used_inside_the_cluster() -> None:
    options = replace(OPTIONS, proxy="http://ada:hush@proxy.example:3128", no_proxy="intern.example")
    holders = [one["kind"] for one in objects(options, PLACE) if "hush" in repr(one)]
    assert holders == ["Secret"]
    environment = {one["name"]: one for one in container(options)["env"]}
    assert environment["HTTPS_PROXY"]["valueFrom"]["secretKeyRef"]["name"] == "towline-agent-settings"
    assert "$(KUBERNETES_SERVICE_HOST)" in environment["NO_PROXY"]["value"]
    assert environment["NO_PROXY"]["value"].endswith(",intern.example")
    assert "hush" not in repr(options)


def test_only_settings_of_the_agent_carry_its_prefix() -> None:
    from typing import get_type_hints

    from towline.agent.settings import _FOREIGN, PREFIX, AgentSettings

    options = replace(OPTIONS, ca_pem="-----BEGIN CERTIFICATE-----")
    names = [one["name"] for one in container(options)["env"] if one["name"].startswith(PREFIX)]
    known = {name.upper() for name in get_type_hints(AgentSettings)} | _FOREIGN
    assert {name.removeprefix(PREFIX) for name in names} <= known


def test_replicas_spread_over_nodes_and_keep_one_during_a_drain() -> None:
    options = replace(OPTIONS, replicas=2)
    assert "podAntiAffinity" in pod(options)["affinity"]
    assert found("PodDisruptionBudget", options)["spec"]["minAvailable"] == 1
    assert options.instances == 3


def test_an_update_never_takes_the_last_pod() -> None:
    strategy = found("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_scheduling_options_arrive() -> None:
    options = replace(
        OPTIONS, priority_class="high", pull_secret="registry", node_selector={"disk": "ssd"}, termination_grace=60,
        tolerations=(Toleration("dedicated", "Equal", "infra", "NoSchedule"), Toleration()),
    )  # fmt: skip
    made = pod(options)
    assert made["priorityClassName"] == "high"
    assert made["imagePullSecrets"] == [{"name": "registry"}]
    assert made["nodeSelector"] == {"disk": "ssd"}
    assert made["terminationGracePeriodSeconds"] == 60
    assert made["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "infra", "effect": "NoSchedule"},
        {"operator": "Exists"},
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"namespace": "kube_system"},
        {"namespace": "a\n---\nkind: Pod"},
        {"name": "x" * 60},
        {"image": "a b"},
        {"image": "x\nprivileged: true"},
        {"replicas": 0},
        {"replicas": 99},
        {"pull_secret": "../x"},
        {"users": ("*",)},
        {"users": ("Ada",)},
        {"proxy": "ftp://x"},
        {"no_proxy": "a b\n"},
        {"ca_pem": "nothing"},
        {"ca_pem": "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----"},
        {"cpu_limit": "lots"},
        {"node_selector": {"a b": "c"}},
        {"tolerations": (Toleration("a", "Exists", "b"),)},
        {"tolerations": (Toleration("", "Equal", "b"),)},
        {"profile": Profile.NAMESPACED},
        {"namespaces": ("shop",)},
        {"profile": Profile.NAMESPACED, "namespaces": ("Shop",)},
    ],
)
def test_a_choice_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadOption):
        objects(replace(OPTIONS, **change), PLACE)


def test_text_that_looks_like_yaml_stays_text() -> None:
    place = replace(PLACE, token="no\n---\nkind: Pod")
    made = list(yaml.safe_load_all(render(OPTIONS, place)))
    secret = next(one for one in made if one["kind"] == "Secret")
    assert secret["stringData"]["token"] == "no\n---\nkind: Pod"


LOCAL = LocalTokens("read-of-the-local-surface", "operate-of-the-local-surface")


def test_the_surface_is_behind_a_cluster_ip_service_that_finds_the_pods() -> None:
    service, deployment = found("Service", name="towline-agent")["spec"], found("Deployment")["spec"]
    assert service["type"] == "ClusterIP"
    assert service["publishNotReadyAddresses"] is True
    assert service["selector"].items() <= deployment["template"]["metadata"]["labels"].items()
    (port,) = service["ports"]
    assert port["port"] == 8080
    assert [one["name"] for one in container()["ports"]] == [port["targetPort"]]


def test_the_pod_is_ready_when_its_surface_says_so() -> None:
    assert container()["readinessProbe"]["httpGet"] == {"path": "/ready", "port": container()["ports"][0]["name"]}
    environment = {one["name"]: one["value"] for one in container()["env"]}
    assert environment["TOWLINE_AGENT_LISTEN"].endswith(":8080")


def test_local_tokens_stand_in_a_secret_of_their_own_and_are_read_as_files() -> None:
    place = replace(PLACE, local=LOCAL)
    made = objects(OPTIONS, place)
    assert [one["metadata"]["name"] for one in made if LOCAL.read in repr(one)] == ["towline-agent-local"]
    assert LOCAL.operate not in repr(place)
    pod = next(one for one in made if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    environment = {one["name"]: one["value"] for one in pod["containers"][0]["env"]}
    mounts = {one["name"]: one["mountPath"] for one in pod["containers"][0]["volumeMounts"]}
    (volume,) = [one for one in pod["volumes"] if one["name"] == "local"]
    paths = {f"{mounts['local']}/{item['path']}" for item in volume["secret"]["items"]}
    assert {environment["TOWLINE_AGENT_READ_TOKEN_FILE"], environment["TOWLINE_AGENT_OPERATE_TOKEN_FILE"]} == paths


def test_two_manifests_have_four_local_tokens_that_the_agent_takes() -> None:
    tokens = [token for one in (minted(), minted()) for token in (one.read, one.operate)]
    assert len(set(tokens)) == 4
    assert all(SHORTEST <= len(token) <= LONGEST for token in tokens)
