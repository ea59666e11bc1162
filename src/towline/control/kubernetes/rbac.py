"""The objects of RBAC for one agent, from the permissions of `profiles.py`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from towline.control.kubernetes import profiles
from towline.control.kubernetes.options import Options
from towline.control.kubernetes.profiles import Permission, Profile
from towline.kube.identity import ROLE_PREFIX

Object = dict[str, Any]

API = "rbac.authorization.k8s.io"
BOOTSTRAP = "kubernetes.io/bootstrapping"
"""Label of the roles that Kubernetes brings itself: those would bring logs to viewers, so they are left out."""
_AGGREGATED = {"viewer": "view", "deployer": "edit"}
"""Roles that take in what makers of custom resources offer for the cluster's own `view` and `edit`."""


def objects(options: Options, labels: dict[str, str]) -> Iterator[Object]:
    """Yield everything, in the order in which it is applied."""
    yield from _own(options, labels)
    for held in profiles.bindings(options.profile):
        yield from _role(held, options, labels)
    for held, roles in profiles.bindings(options.profile).items():
        yield from _bindings(f"towline:{held}", [f"{ROLE_PREFIX}{role}" for role in roles], options, labels)


def rule(permission: Permission) -> dict[str, list[str]]:
    """Return a permission as a rule of RBAC."""
    if permission.urls:
        return {"nonResourceURLs": list(permission.urls), "verbs": list(permission.verbs)}
    found = {"apiGroups": list(permission.groups), "resources": list(permission.resources)}
    if permission.names:
        found["resourceNames"] = list(permission.names)
    return found | {"verbs": list(permission.verbs)}


def _own(options: Options, labels: dict[str, str]) -> Iterator[Object]:
    """Yield what the agent's own account may do."""
    prefix, account = f"{options.name}:{options.namespace}", [_account(options)]
    own = profiles.own_secret(options.key_secret)
    if options.stats_account:
        own = (*own, profiles.stats_account(options.stats_account))
    yield _make("Role", options.name, own, labels, namespace=options.namespace)
    yield _bind("RoleBinding", options.name, "Role", options.name, account, labels, namespace=options.namespace)
    yield _make("ClusterRole", f"{prefix}:impersonate", profiles.impersonation(options.users), labels)
    yield _bind("ClusterRoleBinding", f"{prefix}:impersonate", "ClusterRole", f"{prefix}:impersonate", account, labels)
    if options.inventory:
        yield from _granted(f"{prefix}:inventory", profiles.INVENTORY, options, account, labels)
        if options.stats_account:
            stats = [{"kind": "ServiceAccount", "name": options.stats_account, "namespace": options.namespace}]
            yield from _granted(f"{prefix}:node-stats", profiles.NODE_STATS, options, stats, labels)
    if options.profile is Profile.BROAD:
        yield from _granted(f"{prefix}:deploy", profiles.DEPLOYER, options, account, labels)


def _granted(
    name: str, permissions: Sequence[Permission], options: Options, subjects: list[Object], labels: dict[str, str]
) -> Iterator[Object]:
    """Yield a role and its bindings: everywhere, or in each of the namespaces."""
    if not options.namespaces:
        yield _make("ClusterRole", name, permissions, labels)
        yield _bind("ClusterRoleBinding", name, "ClusterRole", name, subjects, labels)
        return
    yield _make("ClusterRole", name, permissions, labels)
    for namespace in options.namespaces:
        yield _bind("RoleBinding", name, "ClusterRole", name, subjects, labels, namespace=namespace)


def _role(held: str, options: Options, labels: dict[str, str]) -> Iterator[Object]:
    """Yield the role that groups are bound to. Those of viewers and deployers gather what others add to them."""
    permissions = profiles.ROLE_PERMISSIONS[held]
    if options.profile is Profile.NAMESPACED:
        yield _make("ClusterRole", _name(held, options), [one for one in permissions if not one.urls], labels)
        return
    if held not in _AGGREGATED:
        yield _make("ClusterRole", _name(held, options), permissions, labels)
        return
    ours = f"towline.dev/aggregate-to-{held}"
    theirs = f"rbac.authorization.k8s.io/aggregate-to-{_AGGREGATED[held]}"
    yield _make("ClusterRole", f"towline:{held}:base", permissions, labels | {ours: "true"})
    yield {
        **_head("ClusterRole", f"towline:{held}", labels),
        "aggregationRule": {
            "clusterRoleSelectors": [
                {"matchLabels": {ours: "true"}},
                {
                    "matchLabels": {theirs: "true"},
                    "matchExpressions": [{"key": BOOTSTRAP, "operator": "DoesNotExist"}],
                },
            ]
        },
        "rules": [],
    }


def _bindings(name: str, groups: list[str], options: Options, labels: dict[str, str]) -> Iterator[Object]:
    subjects = [{"apiGroup": API, "kind": "Group", "name": group} for group in groups]
    if not options.namespaces:
        yield _bind("ClusterRoleBinding", name, "ClusterRole", name, subjects, labels)
        return
    held = name.removeprefix("towline:")
    role = _name(held, options)
    for namespace in options.namespaces:
        yield _bind("RoleBinding", role, "ClusterRole", role, subjects, labels, namespace=namespace)
    if held == "viewer":
        # Paths that are no resources have no namespace: discovery is for all who may see anything at all.
        yield _make("ClusterRole", f"{role}:discovery", [profiles.DISCOVERY], labels)
        yield _bind("ClusterRoleBinding", f"{role}:discovery", "ClusterRole", f"{role}:discovery", subjects, labels)


def _name(held: str, options: Options) -> str:
    """Return a role's name; those of a namespaced agent differ from the whole cluster's, which may be there too."""
    return f"towline:{held}:namespaced" if options.profile is Profile.NAMESPACED else f"towline:{held}"


def _account(options: Options) -> Object:
    return {"kind": "ServiceAccount", "name": options.name, "namespace": options.namespace}


def _head(kind: str, name: str, labels: dict[str, str], namespace: str = "") -> Object:
    metadata: Object = {"name": name, "labels": dict(labels)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": f"{API}/v1", "kind": kind, "metadata": metadata}


def _make(
    kind: str, name: str, permissions: Iterable[Permission], labels: dict[str, str], namespace: str = ""
) -> Object:
    return _head(kind, name, labels, namespace) | {"rules": [rule(permission) for permission in permissions]}


def _bind(
    kind: str, name: str, role_kind: str, role: str, subjects: list[Object], labels: dict[str, str], namespace: str = ""
) -> Object:
    reference = {"apiGroup": API, "kind": role_kind, "name": role}
    return _head(kind, name, labels, namespace) | {"roleRef": reference, "subjects": [dict(one) for one in subjects]}
