"""What a kubectl command touches: its kinds and names, and every request to the API server that it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from towline.commandline import hosted, manifests, resources
from towline.commandline.catalogue import OUTPUTS
from towline.commandline.errors import BadCommand
from towline.commandline.flags import Parsed, shown
from towline.commandline.naming import (
    MOST_NAMES,
    Made,
    checked_name,
    readings,
    requests,
    require_kinds,
    slashed,
    targets,
    touch,
)
from towline.commandline.plan import Plan, Target
from towline.commandline.resources import BY_NAME
from towline.commandline.verbs import Verb
from towline.kube.access import AccessTuple

MOST_REPLICAS = 10_000
SELECTOR_CHARACTERS = 1_000
"""Of a selector: as the API server takes them without complaint."""

WORKLOADS = ("deployments", "statefulsets", "daemonsets")
SCALABLE = ("deployments", "statefulsets", "replicasets", "replicationcontrollers")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")

OF_CLUSTER = "default"
"""Namespace of the events about objects of the whole cluster, as nodes."""
PODS, NODES, EVENTS = BY_NAME["pods"], BY_NAME["nodes"], BY_NAME["events"]


def plan(verb: Verb, parsed: Parsed, masked: tuple[str, ...], *, stdin: str, namespace: str) -> Plan:
    """Return the plan of a kubectl command. Raises: BadCommand."""
    where = _where(parsed, namespace)
    takes_stdin = parsed.is_given("filename")
    if takes_stdin and parsed.text("filename") != "-":
        raise BadCommand("only `-f -` is taken: the manifest comes by standard input, no files are read")
    if stdin and not takes_stdin:
        raise BadCommand(f"kubectl {verb.name} reads no standard input without `-f -`")
    for name in ("selector", "field-selector", "pod-selector"):
        if len(parsed.text(name)) > SELECTOR_CHARACTERS:
            raise BadCommand(f"--{name} has at most {SELECTOR_CHARACTERS} characters")
    writes = verb.writes and parsed.text("dry-run", "none") == "none"
    given = {"parsed": parsed, "masked": masked, "namespace": where, "writes": writes, "level": verb.level}
    given["hosted"] = verb.hosted
    made = _PLANS[verb.name](verb, parsed, where, stdin)
    return Plan(program="kubectl", verb=verb.name, **{"follows": False, **given, **made})


def _where(parsed: Parsed, namespace: str) -> str:
    """Return the namespace; empty for all of them. Raises: BadCommand."""
    if parsed.has("all-namespaces"):
        if parsed.is_given("namespace"):
            raise BadCommand("--namespace and --all-namespaces exclude each other")
        return ""
    where = parsed.text("namespace", namespace)
    if _NAMESPACE.fullmatch(where) is None:
        raise BadCommand(f"{shown(where)} is no name of a namespace")
    return where


# -- verb by verb ------------------------------------------------------------------------------


def _get(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    output = parsed.text("output")
    form, equals, more = output.partition("=")
    if output and output not in OUTPUTS and not (form in ("jsonpath", "custom-columns") and equals and more):
        raise BadCommand("--output is json, yaml, wide, name, jsonpath=TEMPLATE or custom-columns=SPEC")
    found = targets(parsed)
    touches = readings(found, where)
    if not parsed.has("watch"):
        return {"targets": found, "touches": touches}
    if len(found) != 1 or len(found[0].names) > 1 or output not in ("", "wide") or parsed.is_given("sort-by"):
        raise BadCommand("--watch is for one kind or one object, as a table that is not sorted")
    return {"targets": found, "touches": (*touches, *requests("watch", found, where)), "follows": True}


def _describe(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    found = targets(parsed)
    touches = list(readings(found, where))
    if parsed.text("show-events", "true") == "true":
        scopes = {where if each.resource.namespaced else where and OF_CLUSTER for each in found}
        touches += [touch("list", EVENTS, scope) for scope in sorted(scopes)]
    return {"targets": found, "touches": tuple(touches)}


def _logs(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if parsed.has("all-containers") and parsed.is_given("container"):
        raise BadCommand("--container and --all-containers exclude each other")
    if parsed.is_given("since") and parsed.is_given("since-time"):
        raise BadCommand("--since and --since-time exclude each other")
    follows = parsed.has("follow")
    touches: tuple[AccessTuple, ...]
    if parsed.is_given("selector"):
        if parsed.words:
            raise BadCommand("a name and a selector exclude each other")
        every = (touch("list", PODS, where), touch("get", PODS, where, subresource="log"))
        return {"touches": every, "targets": (Target(PODS),), "follows": follows}
    if not 1 <= len(parsed.words) <= 2:
        raise BadCommand("name a pod, or KIND/NAME, and then at most a container")
    if len(parsed.words) == 2 and parsed.is_given("container"):
        raise BadCommand("the container is named twice")
    one = parsed.words[0]
    target = slashed(one, wide=False) if "/" in one else Target(PODS, (checked_name(one),))
    require_kinds((target,), resources.HAS_PODS, verb)
    name = target.names[0]
    if target.resource is PODS:
        touches = (touch("get", PODS, where, name), touch("get", PODS, where, name, "log"))
    else:
        every = (touch("list", PODS, where), touch("get", PODS, where, subresource="log"))
        touches = (touch("get", target.resource, where, name), *every)
    return {"touches": touches, "targets": (target,), "follows": follows}


def _top(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if not 1 <= len(parsed.words) <= 2:
        raise BadCommand("kubectl top takes `nodes` or `pods`, and at most one name")
    kind = resources.find(parsed.words[0])
    name = checked_name(parsed.words[1]) if len(parsed.words) == 2 else ""
    names = (name,) if name else ()
    reads = "get" if name else "list"
    touches: tuple[AccessTuple, ...]
    if kind is NODES:
        touches = (touch(reads, resources.NODE_METRICS, "", name), touch(reads, NODES, "", name))
    elif kind is PODS:
        touches = (touch(reads, resources.POD_METRICS, where, name),)
    else:
        raise BadCommand("kubectl top takes `nodes` or `pods`")
    return {"touches": touches, "targets": (Target(kind, names),)}


def _apply(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if parsed.words or not parsed.is_given("filename"):
        raise BadCommand("kubectl apply takes `-f -` alone: the manifest comes by standard input")
    found = manifests.read(stdin, where, is_fixed=parsed.is_given("namespace"))
    touches = tuple(touch("patch", each.resource, each.namespace, each.name) for each in found)
    return {"manifests": found, "touches": touches}


def _delete(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    reads = ("get",) if parsed.text("wait", "true") == "true" else ()
    if parsed.is_given("filename"):
        if parsed.words or parsed.is_given("selector") or parsed.has("all"):
            raise BadCommand("names and `-f -` exclude each other")
        found = manifests.read(stdin, where, is_fixed=parsed.is_given("namespace"))
        touches = tuple(
            touch(each, one.resource, one.namespace, one.name) for one in found for each in ("delete", *reads)
        )
        return {"manifests": found, "touches": touches}
    chosen = targets(parsed)
    many = parsed.has("all") or parsed.is_given("selector") or parsed.is_given("field-selector")
    named = any(each.names for each in chosen)
    if named and parsed.has("all"):
        raise BadCommand("names and --all exclude each other")
    if not named and not many:
        raise BadCommand("say which objects to delete: by name, by --selector, or --all")
    asked = [one for each in ("delete", *reads) for one in requests(each, chosen, where)]
    if not named:
        asked += readings(chosen, where)
    return {"targets": chosen, "touches": tuple(asked)}


def _scale(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if not 0 <= parsed.number("replicas", -1) <= MOST_REPLICAS:
        raise BadCommand(f"--replicas is needed, from 0 to {MOST_REPLICAS}")
    found = targets(parsed, needs_name=True)
    require_kinds(found, SCALABLE, verb)
    touches = [*requests("patch", found, where, "scale"), *requests("get", found, where, "scale")]
    if parsed.is_given("selector"):
        touches += readings(found, where)
    return {"targets": found, "touches": tuple(touches)}


def _rollout(*verbs: str, kinds: Sequence[str] = WORKLOADS, revisions: bool = False) -> Callable[..., Made]:
    def make(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
        found = targets(parsed, needs_name=True)
        require_kinds(found, kinds, verb)
        touches = [each for name in verbs for each in requests(name, found, where)]
        if revisions:
            names = {"replicasets" if each.resource.name == "deployments" else "controllerrevisions" for each in found}
            touches += [touch("list", BY_NAME[name], where) for name in sorted(names)]
        follows = verb.name == "rollout status" and parsed.text("watch", "true") == "true"
        return {"targets": found, "touches": tuple(touches), "follows": follows}

    return make


def _nodes(parsed: Parsed) -> Target:
    names = tuple(checked_name(word.removeprefix("node/").removeprefix("nodes/")) for word in parsed.words)
    if bool(names) == parsed.is_given("selector"):
        raise BadCommand("name the nodes, or choose them by --selector")
    if len(names) > MOST_NAMES:
        raise BadCommand(f"a command names at most {MOST_NAMES} objects")
    return Target(NODES, names)


def _cordon(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    found = (_nodes(parsed),)
    touches = [*requests("get", found, ""), *requests("patch", found, "")]
    if parsed.is_given("selector"):
        touches += readings(found, "")
    return {"targets": found, "touches": tuple(touches), "namespace": ""}


def _drain(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    made = _cordon(verb, parsed, where, stdin)
    pods = (touch("list", PODS, ""), touch("get", PODS, ""), touch("create", PODS, "", subresource="eviction"))
    return {**made, "touches": (*made["touches"], *pods)}


_PLANS: dict[str, Callable[[Verb, Parsed, str, str], Made]] = {
    "get": _get,
    "describe": _describe,
    "logs": _logs,
    "top": _top,
    "apply": _apply,
    "delete": _delete,
    "scale": _scale,
    "rollout status": _rollout("get"),
    "rollout history": _rollout("get", revisions=True),
    "rollout restart": _rollout("get", "patch"),
    "rollout pause": _rollout("get", "patch", kinds=("deployments",)),
    "rollout resume": _rollout("get", "patch", kinds=("deployments",)),
    "rollout undo": _rollout("get", "patch", revisions=True),
    "cordon": _cordon,
    "uncordon": _cordon,
    "drain": _drain,
    **hosted.PLANS,
}
