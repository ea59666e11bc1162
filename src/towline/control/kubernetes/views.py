"""Objects of a cluster as their pages show them: state in words, containers, conditions, events, YAML. Pure.

Values of secrets never come here: secrets have no page, and of environments only names are shown.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import yaml

from towline.kube.objects import Pod
from towline.kube.quantities import BadQuantity, parse_quantity
from towline.kube.troubles import pod_trouble

Json = Mapping[str, Any]
MOST_EVENTS = 50
_LEFT_OUT = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink")
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def pod_state(pod: Json, now: float) -> tuple[str, str, str]:
    """Return which of the five states a pod is in, the word for it, and why. Args: now: seconds since the epoch."""
    status, metadata = pod.get("status") or {}, pod.get("metadata") or {}
    phase = str(status.get("phase", "Unknown"))
    if metadata.get("deletionTimestamp"):
        return "working", "Terminating", ""
    trouble = pod_trouble(msgspec.convert(pod, Pod, strict=False), now).words
    if trouble:
        told = status.get("containerStatuses") or ()
        up = sum(bool(one.get("ready")) for one in told)
        word = f"{up} of {len(told)} ready" if phase == "Running" else phase
        return ("degraded" if up else "down"), word, trouble
    if phase == "Running":
        return "healthy", "Running", ""
    return ("unknown" if phase == "Succeeded" else "working"), phase, ""


def containers(pod: Json) -> list[dict[str, Any]]:
    """Return every container of a pod, in the order in which they start."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    found: list[dict[str, Any]] = []
    for field, states, kind in (
        ("initContainers", "initContainerStatuses", "init"),
        ("containers", "containerStatuses", ""),
        ("ephemeralContainers", "ephemeralContainerStatuses", "debug"),
    ):
        told = {one.get("name"): one for one in status.get(states) or ()}
        found += [_container(one, told.get(one.get("name"), {}), kind) for one in spec.get(field) or ()]
    return found


def _container(spec: Json, status: Json, kind: str) -> dict[str, Any]:
    tone, words = _state(status, is_init=kind == "init")
    ended = ((status.get("lastState") or {}).get("terminated")) or {}
    resources = spec.get("resources") or {}
    return {
        "name": str(spec.get("name", "")), "image": str(spec.get("image", "")), "kind": kind, "tone": tone,
        "words": words, "restarts": int(status.get("restartCount") or 0), "last": _ended(ended) if ended else "",
        "last_at": ended.get("finishedAt"), "running": bool((status.get("state") or {}).get("running")),
        "ports": ", ".join(str(port.get("containerPort", "")) for port in spec.get("ports") or ()),
        "asks": _amounts(resources.get("requests")), "at_most": _amounts(resources.get("limits")),
    }  # fmt: skip


def usage(found: Json) -> dict[str, tuple[float, float]]:
    """Return the cores and bytes that each container of a pod uses, from what the metrics API says."""
    told = {str(one.get("name", "")): one.get("usage") or {} for one in found.get("containers") or ()}
    return {name: (_amount(one.get("cpu")), _amount(one.get("memory"))) for name, one in told.items()}


def _amount(text: Any) -> float:
    try:
        return parse_quantity(str(text))
    except BadQuantity:
        return 0.0


def _amounts(found: Any) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in sorted((found or {}).items()))


def _state(status: Json, *, is_init: bool) -> tuple[str, str]:
    state = status.get("state") or {}
    if waiting := state.get("waiting"):
        reason = str(waiting.get("reason") or "waiting")
        message = str(waiting.get("message") or "")
        is_start = reason in ("ContainerCreating", "PodInitializing")
        return ("working" if is_start else "down"), f"{reason}: {message}" if message and not is_start else reason
    if ended := state.get("terminated"):
        good = not ended.get("exitCode")
        return ("unknown" if good else "down"), "done" if good and is_init else _ended(ended)
    if state.get("running"):
        return ("healthy", "running") if status.get("ready") or is_init else ("degraded", "running, not ready")
    return "unknown", "not started"


def _ended(ended: Json) -> str:
    reason = str(ended.get("reason") or "ended")
    return f"{reason}, exit code {ended.get('exitCode', 0)}"


def conditions(status: Json) -> list[dict[str, Any]]:
    """Return conditions that are not as they should be first; those that say that all is well are left to YAML."""
    bad_when_true = ("Failed", "ReplicaFailure", "DisruptionTarget", "FailureTarget")
    found = []
    for one in status.get("conditions") or ():
        good = (one.get("status") == "True") != (one.get("type") in bad_when_true)
        done = one.get("reason") == "PodCompleted"
        found.append(
            {
                "type": one.get("type", ""), "tone": "healthy" if good else "unknown" if done else "degraded",
                "status": one.get("status", ""),
                "reason": ": ".join(filter(None, (one.get("reason"), one.get("message")))),
                "since": one.get("lastTransitionTime"),
            }
        )  # fmt: skip
    return sorted(found, key=lambda one: one["tone"] != "degraded")


def events(found: Json) -> list[dict[str, Any]]:
    """Return an object's events, the newest first."""
    shown = [
        {
            "type": one.get("type", ""), "reason": one.get("reason", ""), "message": one.get("message", ""),
            "count": (one.get("series") or {}).get("count") or one.get("count") or 1,
            "at": (one.get("series") or {}).get("lastObservedTime") or one.get("lastTimestamp")
            or one.get("eventTime") or (one.get("metadata") or {}).get("creationTimestamp"),
        }
        for one in found.get("items") or ()
    ]  # fmt: skip
    return sorted(shown, key=lambda one: str(one["at"]), reverse=True)[:MOST_EVENTS]


def facts(found: Json) -> list[tuple[str, str]]:
    """Return what is worth knowing of any object, by name."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    pairs = [
        ("Node", spec.get("nodeName")), ("Pod address", status.get("podIP")), ("Quality", status.get("qosClass")),
        ("Account", spec.get("serviceAccountName")), ("Strategy", (spec.get("strategy") or {}).get("type")),
        ("Schedule", spec.get("schedule")), ("Type", spec.get("type")), ("Address", spec.get("clusterIP")),
        ("Priority", spec.get("priorityClassName")), ("Class", spec.get("ingressClassName")),
    ]  # fmt: skip
    return [(name, str(value)) for name, value in pairs if value]


def owner(found: Json) -> tuple[str, str]:
    """Return kind and name of the controller that made an object."""
    for one in (found.get("metadata") or {}).get("ownerReferences") or ():
        if one.get("controller"):
            return str(one.get("kind", "")), str(one.get("name", ""))
    return "", ""


def workload_state(found: Json, reason: str) -> tuple[str, str, str]:
    """Return a state for what is no pod, from the counts that the cluster tells.

    Args: reason: what is known better than the object's own conditions; may be empty.
    """
    spec, status = found.get("spec") or {}, found.get("status") or {}
    if (found.get("metadata") or {}).get("deletionTimestamp"):
        return "working", "Terminating", ""
    counts = replicas(found)
    if counts is None:
        failed = any(
            one.get("type") == "Failed" and one.get("status") == "True" for one in status.get("conditions") or ()
        )
        return ("down", "Failed", reason) if failed else ("unknown", str(found.get("kind", "")), reason)
    desired, ready = counts
    updated = status.get("updatedReplicas", status.get("updatedNumberScheduled", desired)) or 0
    if desired == 0:
        return "unknown", "Scaled to none", ""
    if ready >= desired and updated >= desired:
        return ("unknown", "Paused", "") if spec.get("paused") else ("healthy", f"{ready} of {desired} ready", "")
    why = reason or next((one["reason"] for one in conditions(status) if one["tone"] == "degraded"), "")
    return ("degraded" if ready else "down"), f"{ready} of {desired} ready", why


def replicas(found: Json) -> tuple[int, int] | None:
    """Return how many pods an object wants and how many are ready; None for one that has no such counts."""
    spec, status = found.get("spec") or {}, found.get("status") or {}
    if found.get("kind") == "DaemonSet":
        return int(status.get("desiredNumberScheduled") or 0), int(status.get("numberReady") or 0)
    if found.get("kind") not in ("Deployment", "StatefulSet", "ReplicaSet"):
        return None
    wanted = spec.get("replicas")
    return (1 if wanted is None else int(wanted)), int(status.get("readyReplicas") or 0)


def selector(found: Json) -> str:
    """Return the label selector of an object's pods; empty when it has none that a query can hold."""
    wanted = (found.get("spec") or {}).get("selector") or {}
    terms = [f"{key}={value}" for key, value in sorted((wanted.get("matchLabels") or {}).items())]
    terms += list(_expressions(wanted.get("matchExpressions") or ()))
    return ",".join(terms)


def _expressions(found: Sequence[Json]) -> Iterator[str]:
    for one in found:
        key, values = one.get("key", ""), ",".join(one.get("values") or ())
        words = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key}
        yield words.get(str(one.get("operator")), f"!{key}")


# -- YAML --------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, as people do."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def to_yaml(found: Any) -> str:
    return yaml.dump(found, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def editable(found: Json) -> str:
    """Return what of an object can be wanted, as YAML: without its status and what the server writes itself."""
    metadata = {key: value for key, value in (found.get("metadata") or {}).items() if key not in _LEFT_OUT}
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != LAST_APPLIED}
    metadata.pop("annotations", None)
    if notes:
        metadata["annotations"] = notes
    head = {"apiVersion": found.get("apiVersion"), "kind": found.get("kind"), "metadata": metadata}
    rest = {key: value for key, value in found.items() if key not in (*head, "status")}
    return to_yaml(head | rest)


def status_yaml(found: Json) -> str:
    """Return what the cluster tells of an object, as YAML; empty when it tells nothing."""
    return to_yaml(found["status"]) if found.get("status") else ""


def differences(before: str, after: str) -> list[tuple[str, str]]:
    """Return what differs between two texts, with some lines around: what each line is, and the line."""
    kinds = {"+": "add", "-": "remove", "@": "place", " ": "same"}
    found = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=3))
    return [(kinds.get(line[:1], "same"), line) for line in found[2:]]
