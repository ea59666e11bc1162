"""The objects of a manifest that came by standard input: YAML or JSON, several documents, lists unfolded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from towline.commandline import resources
from towline.commandline.errors import BadCommand
from towline.commandline.flags import shown
from towline.commandline.plan import Manifest
from towline.compose import document
from towline.compose.errors import DocumentRefused

MOST_OBJECTS = 200
"""Objects of one manifest: each is a request, and each is judged."""

_SEPARATOR = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
_NAME = re.compile(r"[a-z0-9A-Z](?:[-a-z0-9A-Z.:_]{0,251}[a-z0-9A-Z])?")
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


def read(text: str, namespace: str, *, is_fixed: bool) -> tuple[Manifest, ...]:
    """Return the objects of a manifest.

    Args: namespace: of objects that name none. is_fixed: objects must not name another.
    Raises: BadCommand.
    """
    found = [_manifest(body, namespace, is_fixed) for body in _bodies(text)]
    if not found:
        raise BadCommand("the manifest of standard input holds no object")
    if len(found) > MOST_OBJECTS:
        raise BadCommand(f"a manifest holds at most {MOST_OBJECTS} objects")
    return tuple(found)


def _bodies(text: str) -> Iterator[dict[str, Any]]:
    for number, part in enumerate(_SEPARATOR.split(text), start=1):
        if not any(line.strip() and not line.lstrip().startswith("#") for line in part.splitlines()):
            continue
        try:
            body = document.load(part).data
        except DocumentRefused as error:
            raise BadCommand(f"document {number} of the manifest: {error}") from error
        yield from _unfolded(body, 0)


def _unfolded(body: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    if body.get("kind") == "List" and isinstance(body.get("items"), list) and depth < 2:
        for item in body["items"]:
            if not isinstance(item, dict):
                raise BadCommand("a list of the manifest holds something that is no object")
            yield from _unfolded(item, depth + 1)
    else:
        yield body


def _manifest(body: dict[str, Any], namespace: str, is_fixed: bool) -> Manifest:
    metadata = body.get("metadata")
    version, kind = body.get("apiVersion"), body.get("kind")
    if not isinstance(metadata, dict) or not isinstance(version, str) or not isinstance(kind, str):
        raise BadCommand("an object of the manifest needs apiVersion, kind and metadata")
    name, own = metadata.get("name"), metadata.get("namespace", "")
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise BadCommand(f"a {shown(kind)} of the manifest has no usable metadata.name")
    if own and (not isinstance(own, str) or _NAMESPACE.fullmatch(own) is None):
        raise BadCommand(f"{shown(kind)} {name}: metadata.namespace is no name of a namespace")
    resource = resources.find_kind(version, kind, has_namespace=bool(own))
    if is_fixed and own and own != namespace and resource.namespaced:
        raise BadCommand(f"{kind} {name} is of the namespace {own}, but --namespace says {namespace}")
    return Manifest(resource, (own or namespace) if resource.namespaced else "", name, body)
