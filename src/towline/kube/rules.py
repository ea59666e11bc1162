"""Which role may do what in a cluster, decided on an access tuple before anything reaches the tunnel.

One table of rules, deny by default; each decision names its rule, so that people can be told why. Grants, scopes and
users live in the control plane. Source: kubernetes.md section 5 and the roles of the design.
"""

from collections.abc import Callable
from dataclasses import dataclass

from towline.kube.access import AccessTuple

ROLES = ("viewer", "operator", "deployer", "admin", "owner")
"""Each holds what the one before holds."""

READS = frozenset({"get", "list", "watch"})
_WRITES_SOME = frozenset({"update", "patch"})
_DISCOVERY = frozenset({"api", "apis", "version", "healthz", "livez", "readyz", "openapi"})
_SELF_REVIEWS = frozenset(
    {
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)
_READABLE_SUBRESOURCES = frozenset({"", "status", "scale", "resize", "ephemeralcontainers", "approval", "finalize"})
"""A GET of any other subresource may open a console or a connection, so only these count as reading."""
_CLUSTER_SCOPED = {
    "": "componentstatuses namespaces nodes persistentvolumes",
    "admissionregistration.k8s.io": "mutatingadmissionpolicies mutatingadmissionpolicybindings "
    "mutatingwebhookconfigurations validatingadmissionpolicies validatingadmissionpolicybindings "
    "validatingwebhookconfigurations",
    "apiextensions.k8s.io": "customresourcedefinitions",
    "apiregistration.k8s.io": "apiservices",
    "authentication.k8s.io": "tokenreviews",
    "authorization.k8s.io": "subjectaccessreviews",
    "certificates.k8s.io": "certificatesigningrequests clustertrustbundles",
    "flowcontrol.apiserver.k8s.io": "flowschemas prioritylevelconfigurations",
    "networking.k8s.io": "ingressclasses ipaddresses servicecidrs",
    "node.k8s.io": "runtimeclasses",
    "policy": "podsecuritypolicies",
    "rbac.authorization.k8s.io": "clusterrolebindings clusterroles",
    "scheduling.k8s.io": "priorityclasses",
    "storage.k8s.io": "csidrivers csinodes storageclasses volumeattachments volumeattributesclasses",
}
CLUSTER_SCOPED = frozenset((group, name) for group, names in _CLUSTER_SCOPED.items() for name in names.split())
"""Built-in resources without a namespace: a namespace in their path gives nobody the rights of that namespace."""

_RBAC = "rbac.authorization.k8s.io"
_HOOKS = frozenset(
    {
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
    }
)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a role allows a request, and by which rule, in words for people."""

    allowed: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One permission that a role adds to those before it."""

    role: str
    words: str
    covers: Callable[[AccessTuple], bool]


def allows(role: str, access: AccessTuple, *, namespace: str = "") -> Decision:
    """Tell whether a role covers a request.

    Args: namespace: where the grant reaches; empty for one on the whole cluster. A grant on a namespace never covers
    cluster-scoped resources, lists over all namespaces, or anything but discovery outside of resources.
    """
    if role not in _DECISIONS:
        return _NO_ROLE
    if is_for_everyone(access):
        return _EVERYONE
    if namespace and not _is_inside(access, namespace):
        return _OUTSIDE
    for decision, covers in _DECISIONS[role]:
        if covers(access):
            return decision
    return _REFUSALS[role]


def is_for_everyone(access: AccessTuple) -> bool:
    """True for what everybody with any access to the cluster may ask: discovery, version, health, and about himself."""
    if access.is_resource:
        return (
            access.verb == "create"
            and not access.subresource
            and not access.namespace
            and (access.group, access.resource) in _SELF_REVIEWS
        )
    return access.verb in ("get", "head") and access.path.strip("/").split("/", 1)[0] in _DISCOVERY


def is_namespaced(access: AccessTuple) -> bool:
    """True for a resource inside a namespace.

    Built-in cluster-scoped resources are known by name. For custom ones the API server judges (CVE-2019-11247,
    repaired in 1.13 to 1.15): it serves no cluster-scoped object under a namespaced path.
    """
    return access.is_resource and access.namespace != "" and (access.group, access.resource) not in CLUSTER_SCOPED


def _is_inside(access: AccessTuple, namespace: str) -> bool:
    if access.namespace != namespace:
        return False
    return is_namespaced(access) or (access.resource == "namespaces" and access.group == "" and access.verb == "get")


def _reads(access: AccessTuple) -> bool:
    return (
        access.is_resource
        and access.verb in READS
        and access.resource != "secrets"
        and access.subresource in _READABLE_SUBRESOURCES
    )


def _pods(access: AccessTuple, subresource: str) -> bool:
    return access.group == "" and access.resource == "pods" and access.subresource == subresource


def _reads_logs(access: AccessTuple) -> bool:
    return _pods(access, "log") and access.verb == "get"


def _opens_streams(access: AccessTuple) -> bool:
    return access.is_exec_family and access.group == "" and access.resource == "pods" and access.verb == "create"


def _evicts(access: AccessTuple) -> bool:
    if _pods(access, "eviction"):
        return access.verb == "create"
    return _pods(access, "") and access.verb == "delete"


def _scales(access: AccessTuple) -> bool:
    return access.subresource == "scale" and access.verb in _WRITES_SOME and is_namespaced(access)


def _debugs(access: AccessTuple) -> bool:
    return _pods(access, "ephemeralcontainers") and access.verb in _WRITES_SOME


def _notes(access: AccessTuple) -> bool:
    return access.resource == "events" and access.group in ("", "events.k8s.io") and access.verb == "create"


def _is_workload_proxy(access: AccessTuple) -> bool:
    return access.is_proxy and access.group == "" and access.resource in ("pods", "services")


def _visits(access: AccessTuple) -> bool:
    return _is_workload_proxy(access) and access.verb == "get"


def _deploys(access: AccessTuple) -> bool:
    if not is_namespaced(access) or access.group == _RBAC:
        return False
    return not (access.resource == "serviceaccounts" and access.subresource == "token")


def _reads_secrets(access: AccessTuple) -> bool:
    return access.resource == "secrets" and not access.subresource and access.verb in READS


def _anything(access: AccessTuple) -> bool:
    return True


RULES = (
    Rule("viewer", "viewers read everything but secrets, logs, shells and proxies", _reads),
    Rule("operator", "operators read the logs of pods", _reads_logs),
    Rule("operator", "operators open shells and port-forwards", _opens_streams),
    Rule("operator", "operators evict and delete single pods", _evicts),
    Rule("operator", "operators scale workloads", _scales),
    Rule("operator", "operators add debug containers to pods", _debugs),
    Rule("operator", "operators write events", _notes),
    Rule("operator", "operators visit pods and services through the proxy by GET", _visits),
    Rule("deployer", "deployers do everything inside namespaces but roles, role bindings and tokens", _deploys),
    Rule("deployer", "deployers read secrets", _reads_secrets),
    Rule("admin", "admins do everything", _anything),
)

_EVERYONE = Decision(True, "everyone with access asks for discovery, version, health, and about himself")
_NO_ROLE = Decision(False, "there is no such role")
_OUTSIDE = Decision(False, "the grant reaches one namespace only")


def _decisions(role: str) -> list[tuple[Decision, Callable[[AccessTuple], bool]]]:
    held = ROLES[: ROLES.index(role) + 1]
    return [(Decision(True, rule.words), rule.covers) for rule in RULES if rule.role in held]


_DECISIONS = {role: _decisions(role) for role in ROLES}
_REFUSALS = {role: Decision(False, f"no rule of the role {role} covers this") for role in ROLES}


def is_high_risk(access: AccessTuple) -> str:
    """Return why a request deserves a second look, in words for people, or nothing."""
    if not access.is_resource:
        return ""
    if access.is_exec_family:
        return "opens a shell or a connection into a workload"
    if access.is_proxy:
        return "runs commands in every pod of the node" if access.resource == "nodes" else "reaches into a workload"
    if access.resource == "secrets" and access.verb in READS:
        return "reveals secrets"
    if _pods(access, "ephemeralcontainers"):
        return "runs a container of anybody's choice inside a pod" if access.verb not in READS else ""
    if access.resource == "serviceaccounts" and access.subresource == "token":
        return "mints a token of a service account"
    return "" if access.verb in READS else _risk_of_change(access)


def _risk_of_change(access: AccessTuple) -> str:
    if access.group == _RBAC:
        return "changes who may do what"
    if access.group == "certificates.k8s.io":
        return "makes or approves a certificate"
    if access.resource in _HOOKS:
        return "changes what may change every request"
    if access.resource == "apiservices":
        return "changes who serves a part of the API"
    return ""
