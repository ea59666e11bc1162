"""What the host's owner lets pass to the API server: the local policy's `[kubernetes]`, held against an access tuple.

Pure functions; the policy is read elsewhere, and what the cluster's own RBAC forbids it forbids besides.
An answer is the sentence that says what is forbidden, empty when nothing is. Source: docs/how-to/agent-policy.md.
"""

from __future__ import annotations

from towline.agent.policy import KubernetesRules, fits
from towline.kube.access import AccessTuple
from towline.kube.rules import CLUSTER_SCOPED, READS

_PLAIN_SUBRESOURCES = frozenset({"", "status", "scale", "resize", "log", "ephemeralcontainers", "approval", "finalize"})
"""A GET of any other one may open a console or a connection, and so is no reading."""

_SELF_REVIEWS = frozenset(
    {
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
    }
)
_DISCOVERY = frozenset({"api", "apis", "version", "openapi", "healthz", "livez", "readyz"})


def forbidden(rules: KubernetesRules, access: AccessTuple) -> str:
    """Hold a request against the rules of the host's owner."""
    if is_question(access):
        return ""
    if rules.read_only and not is_reading(access):
        return "the policy of this host allows reading only"
    if not rules.exec and opens_shell(access):
        return "the policy of this host does not allow exec, attach, port-forward or debug containers"
    if not rules.secrets and reveals_secrets(access):
        return "the policy of this host does not allow secrets"
    return "" if "*" in rules.namespaces else _beyond_namespaces(rules, access)


def forbidden_directly(access: AccessTuple) -> str:
    """Hold a request against what may be done with the agent's own rights: reading, and never what reveals more.

    A control plane that misbehaves could name no identity at all and so have everything that the agent may do.
    """
    if is_question(access) or (is_reading(access) and not reveals_secrets(access)):
        return ""
    return "without an identity only reading is allowed, and no secrets"


def is_question(access: AccessTuple) -> bool:
    """True for discovery, version and health, and for what a user may ask about himself."""
    if access.is_resource:
        is_review = (access.group, access.resource) in _SELF_REVIEWS and not access.subresource
        return is_review and access.verb == "create" and not access.namespace
    return access.verb in ("get", "head") and access.path.strip("/").split("/")[0] in _DISCOVERY


def is_reading(access: AccessTuple) -> bool:
    """True for what changes nothing and opens nothing."""
    if not access.is_resource:
        return access.verb in ("get", "head")
    return access.verb in READS and access.subresource in _PLAIN_SUBRESOURCES


def opens_shell(access: AccessTuple) -> bool:
    """True for ways into a container: a kubelet runs commands on a GET."""
    if access.is_exec_family:
        return True
    into_pod = access.subresource == "ephemeralcontainers" and access.verb not in READS
    return into_pod or (access.resource == "nodes" and access.is_proxy)


def reveals_secrets(access: AccessTuple) -> bool:
    """True for secrets by any verb, since a list and a watch show their content, and for new tokens."""
    if access.group or not access.is_resource:
        return False
    return access.resource == "secrets" or (access.resource == "serviceaccounts" and access.subresource == "token")


def _beyond_namespaces(rules: KubernetesRules, access: AccessTuple) -> str:
    if not access.is_resource:
        return f"the policy of this host does not allow {access.path[:100]}"
    if not access.namespace or (access.group, access.resource) in CLUSTER_SCOPED - {("", "namespaces")}:
        return f"the policy of this host allows single namespaces, not {access.kind[:100]} of the whole cluster"
    if not fits(access.namespace, rules.namespaces):
        return f"the policy of this host does not allow the namespace {access.namespace[:100]}"
    return ""
