"""Which resource a word means: `po`, `pods`, `deployments.apps`. Aggregated discovery, else list by list. Pure but for
the API that is given. Source: kubernetes.md 1.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from towline.cli.errors import NOT_FOUND, CliError
from towline.cli.kube.api import ClusterApi

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a cluster, in the version that the server prefers."""

    group: str
    version: str
    plural: str
    namespaced: bool
    words: frozenset[str] = frozenset()

    def path(self, namespace: str = "", name: str = "") -> str:
        """Return its path. Args: namespace: empty: of all namespaces, or of the cluster."""
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        return "/".join([*parts, self.plural, *([quote(name, safe=":")] if name else [])])


def find(api: ClusterApi, word: str) -> Resource:
    """Return the resource that a word means. Raises: CliError: there is none."""
    wanted, _, group = word.lower().partition(".")
    for resource in _all(api):
        if wanted in resource.words and group in ("", resource.group, f"{resource.version}.{resource.group}"):
            return resource
    raise CliError(f"{api.cluster} knows no resource {word!r}", code=NOT_FOUND)


def _all(api: ClusterApi) -> Iterator[Resource]:
    for root in ("/api", "/apis"):
        found = api.get(root, accept=AGGREGATED)
        if found.get("kind") == "APIGroupDiscoveryList":
            yield from aggregated(found)
        elif root == "/api":
            yield from listed("", "v1", api.get("/api/v1"))
        else:
            for group in found.get("groups") or []:
                version = group["preferredVersion"]["version"]
                yield from listed(group["name"], version, api.get(f"/apis/{group['name']}/{version}"))


def aggregated(document: dict[str, Any]) -> Iterator[Resource]:
    """Read an APIGroupDiscoveryList; the first version of a group that has a resource is the preferred one."""
    for group in document.get("items") or []:
        seen: set[str] = set()
        for version in group.get("versions") or []:
            for entry in version.get("resources") or []:
                if entry["resource"] in seen:
                    continue
                seen.add(entry["resource"])
                kind = (entry.get("responseKind") or {}).get("kind", "")
                words = _words(entry["resource"], entry.get("singularResource"), kind, entry.get("shortNames"))
                name, is_namespaced = group["metadata"].get("name", ""), entry.get("scope") == "Namespaced"
                yield Resource(name, version["version"], entry["resource"], is_namespaced, words)


def listed(group: str, version: str, document: dict[str, Any]) -> Iterator[Resource]:
    """Read an APIResourceList."""
    for entry in document.get("resources") or []:
        if "/" not in entry["name"]:
            words = _words(entry["name"], entry.get("singularName"), entry.get("kind", ""), entry.get("shortNames"))
            yield Resource(group, version, entry["name"], bool(entry.get("namespaced")), words)


def _words(plural: str, singular: str | None, kind: str, short: list[str] | None) -> frozenset[str]:
    return frozenset(word for word in (plural, singular or "", kind.lower(), *(short or [])) if word)
