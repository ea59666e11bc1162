"""Kinds and names as people type them, and the requests to an API server that they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from towline.commandline import resources
from towline.commandline.errors import BadCommand
from towline.commandline.flags import Parsed, shown
from towline.commandline.plan import Target
from towline.commandline.resources import Resource
from towline.commandline.verbs import Verb
from towline.kube.access import AccessTuple

NAME = re.compile(r"[a-z0-9A-Z](?:[-a-z0-9A-Z.:_]{0,251}[a-z0-9A-Z])?")
"""What stands in a path as a name; RBAC's own hold colons. Source: Kubernetes, "Object Names and IDs"."""
MOST_NAMES = 100
"""Names of one command: more are chosen by a selector."""

Made = dict[str, Any]
"""Fields of a plan that a verb decides."""


def targets(parsed: Parsed, *, needs_name: bool = False) -> tuple[Target, ...]:
    """Read `KIND NAME…`, `KIND,KIND` and `KIND/NAME…`. Raises: BadCommand."""
    words, wide = parsed.words, parsed.has("all-namespaces")
    if not words:
        raise BadCommand("name a kind, like `pods`, or KIND/NAME")
    if any("/" in word for word in words):
        found = [slashed(word, wide) for word in words]
    else:
        kinds = _kinds(words[0], wide)
        names = tuple(checked_name(word) for word in words[1:])
        if names and len(kinds) > 1:
            raise BadCommand("names stand behind one kind, or as KIND/NAME")
        found = [Target(kind, names) for kind in kinds]
    named = sum(len(each.names) for each in found)
    if named > MOST_NAMES:
        raise BadCommand(f"a command names at most {MOST_NAMES} objects")
    if named and (parsed.is_given("selector") or parsed.is_given("field-selector")):
        raise BadCommand("names and selectors exclude each other")
    if needs_name and not named and not parsed.text("selector"):
        raise BadCommand("name the object, as KIND/NAME")
    if named and wide and any(each.resource.namespaced for each in found):
        raise BadCommand("an object with a name is in one namespace: --all-namespaces cannot stand beside it")
    return tuple(found)


def slashed(word: str, wide: bool) -> Target:
    """Read KIND/NAME. Raises: BadCommand."""
    kind, slash, name = word.partition("/")
    if not slash:
        raise BadCommand("either all arguments are KIND/NAME, or the first is a kind and the others are names")
    return Target(resources.find(kind, cluster_wide=wide), (checked_name(name),))


def _kinds(text: str, wide: bool) -> tuple[Resource, ...]:
    words: Iterable[str] = text.split(",")
    found = {}
    for word in words:
        for each in resources.ALL if word == "all" else (word,):
            kind = resources.find(each, cluster_wide=wide)
            found[kind.group, kind.name] = kind
    return tuple(found.values())


def checked_name(text: str) -> str:
    """Return the name of an object. Raises: BadCommand."""
    if NAME.fullmatch(text) is None:
        raise BadCommand(f"{shown(text)} is no name of an object")
    return text


def touch(verb: str, resource: Resource, namespace: str, name: str = "", subresource: str = "") -> AccessTuple:
    """Return the request that a verb makes to a kind of object."""
    where = namespace if resource.namespaced else ""
    return AccessTuple(verb, resource.group, resource.version, resource.name, subresource, where, name)


def readings(found: Iterable[Target], namespace: str) -> tuple[AccessTuple, ...]:
    """Return what reading some objects asks for."""
    return tuple(
        touch("get" if name else "list", each.resource, namespace, name)
        for each in found
        for name in (each.names or ("",))
    )


def requests(verb: str, found: Iterable[Target], namespace: str, subresource: str = "") -> tuple[AccessTuple, ...]:
    """Return one request to each object."""
    return tuple(
        touch(verb, each.resource, namespace, name, subresource) for each in found for name in (each.names or ("",))
    )


def require_kinds(found: Iterable[Target], kinds: Sequence[str], verb: Verb) -> None:
    """Raises: BadCommand: the verb is for other kinds."""
    for each in found:
        if each.resource.name not in kinds:
            raise BadCommand(f"kubectl {verb.name} is for {', '.join(kinds)}, not for {each.resource.name}")
