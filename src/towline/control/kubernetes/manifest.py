"""The manifest of an agent in a cluster: from options, an address and a join token to YAML. Pure.

The token stands in a Secret that the pod mounts as a file, never in its environment, arguments or annotations. What
the agent may do is `rbac.py`. Source: Kubernetes, "Pod Security Standards", restricted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from towline.control.kubernetes import manifest_local as local
from towline.control.kubernetes import rbac
from towline.control.kubernetes.options import SURGE, Options, checked

USER = 10001
"""The image's user; not root, and none of a node's own."""
STATE_MOUNT = "/var/lib/towline-agent"
STATE = f"{STATE_MOUNT}/state"
"""Made by the agent itself, so that it owns it: a volume's own folder belongs to root."""
JOIN = "/var/run/towline/join"
TRUST = "/var/run/towline/trust"
STATE_LIMIT = "256Mi"
"""Room of the state folder, which lives as long as its pod."""
CLUSTER_NO_PROXY = "localhost,127.0.0.1,::1,.svc,.cluster.local,$(KUBERNETES_SERVICE_HOST)"
"""Never by way of a proxy: the cluster's own addresses, the API server's first."""

ALIVE = ["/bin/sh", "-c", f'test -n "$(find {STATE}/alive -mmin -3)"']
"""The agent touches the file from its event loop every few seconds."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the agent joins, and with what."""

    cluster: str
    server: str
    fingerprints: tuple[str, ...] = ()
    token: str = field(default="", repr=False)
    local: local.LocalTokens | None = None
    """Tokens of the agent's own surface; None: it makes its own."""


def render(options: Options, place: Place) -> str:
    """Return the manifest as YAML. Raises: BadOption."""
    head = (
        f"# The agent of Towline for the cluster {place.cluster}: kubectl apply -f THIS\n"
        "# It holds a join token in a Secret; treat the file as one until the agent has joined.\n"
    )
    return head + "".join(f"---\n{dumped(one)}" for one in objects(options, place))


def dumped(one: Object) -> str:
    """Write one object as YAML that means the same to every reader."""
    text: str = yaml.safe_dump(one, sort_keys=False, allow_unicode=False, width=10_000)
    return text


def objects(options: Options, place: Place) -> list[Object]:
    """Return every object in the order in which it is applied. Raises: BadOption."""
    options = checked(options)
    labels = _labels(options)
    found = [
        _namespace(options, labels),
        *_accounts(options, labels),
        *rbac.objects(options, labels),
        *_secrets(options, place, labels),
        _object("v1", "Service", options.name, options, labels) | {"spec": local.service_spec(_selector(labels))},
        _deployment(options, place, labels),
    ]
    if options.replicas > 1:
        found.append(_disruption_budget(options, labels))
    return found


def _labels(options: Options) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "towline-agent",
        "app.kubernetes.io/instance": options.name,
        "app.kubernetes.io/part-of": "towline",
        "app.kubernetes.io/managed-by": "towline",
    }


def _object(api: str, kind: str, name: str, options: Options, labels: dict[str, str]) -> Object:
    metadata = {"name": name, "namespace": options.namespace, "labels": dict(labels)}
    return {"apiVersion": api, "kind": kind, "metadata": metadata}


def _namespace(options: Options, labels: dict[str, str]) -> Object:
    enforced = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": options.namespace, "labels": {"app.kubernetes.io/part-of": "towline", **enforced}},
    }


def _accounts(options: Options, labels: dict[str, str]) -> Iterator[Object]:
    """Yield the agent's account, and the one that kubelets know it by."""
    for name in filter(None, (options.name, options.stats_account)):
        yield _object("v1", "ServiceAccount", name, options, labels) | {"automountServiceAccountToken": False}


def _secrets(options: Options, place: Place, labels: dict[str, str]) -> Iterator[Object]:
    """Yield the Secret with the join token, which may be deleted once the agent has joined, and those that stay."""
    yield _secret(options.join_secret, {"token": place.token}, options, labels)
    if place.local is not None:
        tokens = {"read": place.local.read, "operate": place.local.operate}
        yield _secret(options.local_secret, tokens, options, labels)
    kept = {"proxy": options.proxy, "ca.pem": options.ca_pem}
    if any(kept.values()):
        yield _secret(options.settings_secret, {key: value for key, value in kept.items() if value}, options, labels)


def _secret(name: str, data: dict[str, str], options: Options, labels: dict[str, str]) -> Object:
    return _object("v1", "Secret", name, options, labels) | {"type": "Opaque", "stringData": data}


def _deployment(options: Options, place: Place, labels: dict[str, str]) -> Object:
    selector = _selector(labels)
    return _object("apps/v1", "Deployment", options.name, options, labels) | {
        "spec": {
            "replicas": options.replicas,
            "revisionHistoryLimit": 3,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": SURGE, "maxUnavailable": 0}},
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": dict(labels)}, "spec": _pod(options, place, selector)},
        }
    }


def _selector(labels: dict[str, str]) -> dict[str, str]:
    return {key: labels[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}


def _pod(options: Options, place: Place, selector: dict[str, str]) -> Object:
    pod: Object = {
        "serviceAccountName": options.name,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.termination_grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(options, place)],
        "volumes": [*_volumes(options), *local.volumes(place.local, options.local_secret)],
    }
    if options.pull_secret:
        pod["imagePullSecrets"] = [{"name": options.pull_secret}]
    if options.priority_class:
        pod["priorityClassName"] = options.priority_class
    if options.node_selector:
        pod["nodeSelector"] = dict(options.node_selector)
    if options.tolerations:
        pod["tolerations"] = [_toleration(one) for one in options.tolerations]
    if options.replicas > 1:
        pod["affinity"] = _apart(selector)
    return pod


def _container(options: Options, place: Place) -> Object:
    mounts = [
        {"name": "state", "mountPath": STATE_MOUNT},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - inside the pod, of its own
        {"name": "join", "mountPath": JOIN, "readOnly": True},
        *local.mounts(place.local),
    ]
    if options.ca_pem:
        mounts.append({"name": "trust", "mountPath": TRUST, "readOnly": True})
    return {
        "name": "agent",
        "image": options.image,
        "imagePullPolicy": options.pull_policy,
        "args": ["run"],
        "env": _environment(options, place),
        "ports": local.container_ports(),
        "resources": {
            "requests": {"cpu": options.cpu_request, "memory": options.memory_request},
            "limits": {"cpu": options.cpu_limit, "memory": options.memory_limit},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe(ALIVE, period=2, failures=60),
        "livenessProbe": _probe(ALIVE, period=30, failures=3),
        "readinessProbe": local.readiness(period=5, failures=2),
        "volumeMounts": mounts,
    }


def _environment(options: Options, place: Place) -> list[Object]:
    names = {
        "TOWLINE_AGENT_STATE_FOLDER": STATE,
        "TOWLINE_AGENT_SERVER": place.server,
        "TOWLINE_AGENT_FINGERPRINTS": ",".join(place.fingerprints),
        "TOWLINE_AGENT_TOKEN_FILE": f"{JOIN}/token",
        "TOWLINE_AGENT_IDENTITY_SECRET": f"{options.namespace}/{options.key_secret}",
    }
    if options.stats_account:
        names["TOWLINE_AGENT_KUBELET_ACCOUNT"] = f"{options.namespace}/{options.stats_account}"
    names |= local.environment(place.local)
    if options.ca_pem:
        names["TOWLINE_AGENT_CA_FILE"] = f"{TRUST}/ca.pem"
    if options.proxy or options.no_proxy:
        names["NO_PROXY"] = ",".join(filter(None, (CLUSTER_NO_PROXY, options.no_proxy.replace(" ", ""))))
    found: list[Object] = [{"name": name, "value": value} for name, value in names.items() if value]
    if options.proxy:
        reference = {"name": options.settings_secret, "key": "proxy"}
        found.append({"name": "HTTPS_PROXY", "valueFrom": {"secretKeyRef": reference}})
    return found


def _volumes(options: Options) -> list[Object]:
    join = {"secretName": options.join_secret, "optional": True, "items": [{"key": "token", "path": "token"}]}
    volumes: list[Object] = [
        {"name": "state", "emptyDir": {"sizeLimit": STATE_LIMIT}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "join", "secret": join | {"defaultMode": 0o440}},
    ]
    if options.ca_pem:
        item = {"key": "ca.pem", "path": "ca.pem"}
        volumes.append({"name": "trust", "secret": {"secretName": options.settings_secret, "items": [item]}})
    return volumes


def _probe(command: Sequence[str], *, period: int, failures: int) -> Object:
    return {
        "exec": {"command": list(command)},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _toleration(one: Any) -> Object:
    words = {"key": one.key, "operator": one.operator, "value": one.value, "effect": one.effect}
    return {name: word for name, word in words.items() if word}


def _apart(selector: dict[str, str]) -> Object:
    """Prefer one pod per node, so that losing a node costs one link."""
    term = {"labelSelector": {"matchLabels": selector}, "topologyKey": "kubernetes.io/hostname"}
    wanted = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": wanted}}


def _disruption_budget(options: Options, labels: dict[str, str]) -> Object:
    selector = _selector(labels)
    made = _object("policy/v1", "PodDisruptionBudget", options.name, options, labels)
    return made | {"spec": {"minAvailable": 1, "selector": {"matchLabels": selector}}}
