"""What the verbs of the host's own `kubectl` touch, and the argument list that it is given.

The list is made anew from what was read, so that nothing passes that was not understood. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

from towline.commandline import manifests, pods, resources
from towline.commandline.errors import BadCommand
from towline.commandline.flags import Parsed, shown
from towline.commandline.naming import Made, readings, requests, slashed, targets, touch
from towline.commandline.plan import Plan, Target
from towline.commandline.resources import BY_NAME, Resource
from towline.commandline.verbs import Verb
from towline.kube.access import AccessTuple

MANAGER = "towline"
"""Who owns the fields that a command changes."""
MOST_PAIRS = 50
"""Labels, annotations or taints of one command."""

_REVIEWS = Resource("selfsubjectaccessreviews", "SelfSubjectAccessReview", "authorization.k8s.io", namespaced=False)
_RULES = Resource("selfsubjectrulesreviews", "SelfSubjectRulesReview", "authorization.k8s.io", namespaced=False)
_WHO = Resource("selfsubjectreviews", "SelfSubjectReview", "authentication.k8s.io", namespaced=False)
_DISCOVERY = AccessTuple("get", path="/apis", is_resource=False)
_VERSION = AccessTuple("get", path="/version", is_resource=False)
_FIELD = re.compile(r"[A-Za-z0-9][-A-Za-z0-9.]{0,300}")
_PAIR = re.compile(r"[^=:]+(?:[=:].*|-)", re.DOTALL)
_CONDITION = re.compile(r"delete|create|(?:condition|jsonpath)=.{1,300}", re.DOTALL)
_WORD = re.compile(r"[*a-z]{1,40}")
_MAKES_CONTAINERS = ("template", "jobTemplate")


def arguments(plan: Plan, *own: str) -> list[str]:
    """Return what the host's `kubectl` is given, without its own name. `own`: options of whoever runs it."""
    parsed = plan.parsed
    given = [*plan.verb.split(), *(f"--{name}={value}" for name, value in _values(parsed))]
    if parsed.has("all-namespaces"):
        given.append("--all-namespaces")
    elif plan.namespace:
        given.append(f"--namespace={plan.namespace}")
    if plan.verb in _MANAGED:
        given.append(f"--field-manager={MANAGER}")
    given += own
    return [*given, "--", *parsed.words] if parsed.words else given


def standard_input(plan: Plan) -> bytes:
    """Return the manifest as it was judged: what another reader of YAML makes of the text does not matter then."""
    items = [each.body for each in plan.manifests]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode() if items else b""


def _values(parsed: Parsed) -> Iterator[tuple[str, str]]:
    for name in parsed.values:
        if name == "timeout":
            yield name, f"{parsed.seconds(name, 0):g}s"
        elif name not in ("namespace", "all-namespaces"):
            yield name, parsed.text(name)


# -- verb by verb ------------------------------------------------------------------------------


def _nothing(*touches: AccessTuple) -> Callable[..., Made]:
    def make(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
        if parsed.words:
            raise BadCommand(f"kubectl {verb.name} takes no names, but flags")
        return {"touches": touches}

    return make


def _can_i(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if parsed.has("list") == bool(parsed.words):
        raise BadCommand("name a verb and a kind, or say --list")
    if parsed.words and (len(parsed.words) != 2 or _WORD.fullmatch(parsed.words[0]) is None):
        raise BadCommand("name a verb and a kind, like `get pods` or `delete pod/web`")
    kind = _RULES if parsed.has("list") else _REVIEWS
    return {"touches": (touch("create", kind, ""),)}


def _explain(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if len(parsed.words) != 1 or _FIELD.fullmatch(parsed.words[0]) is None:
        raise BadCommand("name one kind, or a field of it, like pods.spec")
    return {"touches": (_DISCOVERY,)}


def _events(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if parsed.words:
        raise BadCommand("kubectl events takes no names; say --for KIND/NAME")
    if parsed.is_given("for"):
        slashed(parsed.text("for"), wide=False)
    return {"touches": (touch("list", BY_NAME["events"], where),)}


def _wait(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    if _CONDITION.fullmatch(parsed.text("for")) is None:
        raise BadCommand("--for is needed: delete, create, condition=NAME[=VALUE] or jsonpath=PATH[=VALUE]")
    found = targets(parsed, needs_name=True)
    touches = [each for word in ("get", "list", "watch") for each in requests(word, found, where)]
    return {"targets": found, "touches": tuple(touches)}


def _paired(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    found, _ = _split(verb, parsed)
    return {"targets": found, "touches": _changed(found, where)}


def _taint(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    found, _ = _split(verb, parsed)
    if any(each.resource is not BY_NAME["nodes"] for each in found):
        raise BadCommand("kubectl taint is for nodes")
    return {"targets": found, "touches": _changed(found, ""), "namespace": ""}


def _split(verb: Verb, parsed: Parsed) -> tuple[tuple[Target, ...], tuple[str, ...]]:
    """Return the objects, and the pairs behind them. Raises: BadCommand."""
    words = parsed.words
    begin = next((at for at, word in enumerate(words) if at and _PAIR.fullmatch(word)), len(words))
    pairs = words[begin:]
    if not pairs or len(pairs) > MOST_PAIRS:
        raise BadCommand(f"kubectl {verb.name} takes 1 to {MOST_PAIRS} of KEY=VALUE and KEY- behind the objects")
    for pair in pairs:
        if _PAIR.fullmatch(pair) is None:
            raise BadCommand(f"{shown(pair)} is neither KEY=VALUE nor KEY-")
    return targets(Parsed(words[:begin], parsed.values), needs_name=True), pairs


def _changed(found: tuple[Target, ...], where: str) -> tuple[AccessTuple, ...]:
    return (*readings(found, where), *requests("patch", found, where))


def _patch(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
    found = targets(parsed, needs_name=True)
    body = _json(parsed.text("patch"))
    for each in found:
        if each.resource.name == "secrets":
            raise BadCommand("secrets are not patched: what stands in an argument is kept; apply a manifest")
        if _reaches_containers(each.resource, body):
            raise BadCommand(f"what the containers of {each.resource.name} are is changed by apply alone")
    return {"targets": found, "touches": (*requests("get", found, where), *requests("patch", found, where))}


def _json(text: str) -> dict[str, object]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadCommand("--patch is needed, and is a JSON object") from error
    if not isinstance(body, dict):
        raise BadCommand("--patch is a JSON object")
    return body


def _reaches_containers(resource: Resource, body: dict[str, object]) -> bool:
    """Tell whether a patch may change what runs; only metadata and the plain fields of a workload do not."""
    if resource.kind not in pods.KINDS:
        return False
    spec = body.get("spec", {})
    if resource.kind in ("Pod", "PodTemplate") or not isinstance(spec, dict):
        return not body.keys() <= {"metadata"}
    return not body.keys() <= {"metadata", "spec"} or any(key in spec for key in (*_MAKES_CONTAINERS, "$patch"))


def _manifest(*verbs: str) -> Callable[..., Made]:
    def make(verb: Verb, parsed: Parsed, where: str, stdin: str) -> Made:
        if parsed.words or not parsed.is_given("filename"):
            raise BadCommand(f"kubectl {verb.name} takes `-f -` alone: the manifest comes by standard input")
        found = manifests.read(stdin, where, is_fixed=parsed.is_given("namespace"))
        touches = (
            touch(word, each.resource, each.namespace, "" if word == "create" else each.name)
            for each in found
            for word in verbs
        )
        return {"manifests": found, "touches": tuple(dict.fromkeys(touches))}

    return make


PLANS: dict[str, Callable[[Verb, Parsed, str, str], Made]] = {
    "annotate": _paired,
    "api-resources": _nothing(_DISCOVERY),
    "api-versions": _nothing(_DISCOVERY),
    "auth can-i": _can_i,
    "auth whoami": _nothing(touch("create", _WHO, "")),
    "cluster-info": _nothing(touch("list", resources.BY_NAME["services"], "kube-system")),
    "create": _manifest("create"),
    "events": _events,
    "explain": _explain,
    "label": _paired,
    "patch": _patch,
    "replace": _manifest("get", "update"),
    "taint": _taint,
    "version": _nothing(_VERSION),
    "wait": _wait,
}
_MANAGED = ("annotate", "create", "label", "patch", "replace", "taint")
