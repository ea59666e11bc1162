"""What an agent and the people behind it may do in a cluster: four profiles as data, each permission with its reason.

The agent's own account has next to no rights: it becomes who asks, by impersonation, and the cluster's own RBAC judges
that identity. Roles hang on the groups `towline:role:*`. No role is cluster-admin: not even `admin` may escalate, bind
or impersonate. What the agent may become bounds what a stolen agent can do. No YAML here: that is `manifest.py`.
Source: kubernetes.md 5 and 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from towline.kube.identity import AUTHENTICATED, EXTRA_PREFIX, REQUEST_ID_KEY, ROLE_PREFIX

READ = ("get", "list", "watch")
WRITE = ("create", "update", "patch", "delete", "deletecollection")
ALL = READ + WRITE
ROLES = ("viewer", "operator", "deployer", "admin", "owner")


class Profile(StrEnum):
    """How much an agent may."""

    DEFAULT = "default"
    """It becomes who asks, and reads an inventory without Secrets."""
    READ_ONLY = "read-only"
    """As default, but every role may only see."""
    NAMESPACED = "namespaced"
    """As default, but nothing outside of the namespaces that are named."""
    BROAD = "broad"
    """As default, and its own account may deploy without anybody asking."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One rule of RBAC and why it is there."""

    reason: str
    verbs: tuple[str, ...]
    resources: tuple[str, ...] = ()
    groups: tuple[str, ...] = ("",)
    names: tuple[str, ...] = ()
    """Only these objects; empty: any."""
    urls: tuple[str, ...] = ()
    """Paths that are no resources; only a ClusterRole can hold them."""


WORKLOADS = ("deployments", "statefulsets", "daemonsets", "replicasets", "controllerrevisions")

# -- the agent's own account ---------------------------------------------------------------------


def impersonation(users: Sequence[str] = ()) -> tuple[Permission, ...]:
    """Return what lets the agent become who asks, and nobody of the cluster's own groups.

    Args: users: names of the control plane's users; empty: RBAC cannot say "users that begin with towline:", so any
        user name may be impersonated as far as the cluster is concerned, and the agent's own check is the only one.
    """
    role_groups = tuple(f"{ROLE_PREFIX}{role}" for role in ROLES)
    extras = tuple(f"userextras/{key}" for key in (f"{EXTRA_PREFIX}session", REQUEST_ID_KEY))
    return (
        Permission(
            "Each request runs in a group of a role of Towline. No other group may be taken, so system:masters is out "
            "of reach.", ("impersonate",), ("groups",), names=(*role_groups, AUTHENTICATED),
        ),
        Permission(
            "Each request runs under the name of who asks, `towline:NAME`, which the audit log of the cluster shows.",
            ("impersonate",), ("users",), names=tuple(f"towline:{name}" for name in users),
        ),
        Permission(
            "The session and the request's id stand in the audit log of the cluster, so that both logs can be joined.",
            ("impersonate",), extras, ("authentication.k8s.io",),
        ),
    )  # fmt: skip


INVENTORY = (
    Permission("The overview shows nodes with their conditions, and namespaces.", READ, ("nodes", "namespaces")),
    Permission(
        "The overview shows pods that are not well and why, and events that matter; volume claims name what a workload "
        "needs. Services tell where published ones are, and whether a controller is public.", READ,
        ("pods", "services", "events", "persistentvolumeclaims"),
    ),
    Permission("The overview shows workloads with ready counts.", READ, WORKLOADS, ("apps",)),
    Permission("The overview shows jobs that failed.", READ, ("jobs", "cronjobs"), ("batch",)),
    Permission("Ingresses are offered as routes; their class says who serves them.", READ,
               ("ingresses", "ingressclasses"), ("networking.k8s.io",)),
    Permission("HTTPRoutes of the Gateway API are offered as routes; Gateways name their hosts.", READ,
               ("httproutes", "gateways"), ("gateway.networking.k8s.io",)),
    Permission("A headless service that is published is reached by its endpoints.", READ, ("endpointslices",),
               ("discovery.k8s.io",)),
    Permission(
        "The overview shows usage where a metrics server runs.", ("get", "list"), ("nodes", "pods"),
        ("metrics.k8s.io",),
    ),
)  # fmt: skip
"""Removable as one: without it the agent tells the cluster's version alone. No Secrets, no ConfigMaps, no writing."""


def stats_account(account: str) -> Permission:
    """Return what lets the agent speak to kubelets as an account that may do nothing else."""
    return Permission(
        "Kubelets are asked with a short token of this account, which reads statistics and nothing else: none of them "
        "ever sees the agent's own.", ("create",), ("serviceaccounts/token",), names=(account,),
    )  # fmt: skip


NODE_STATS = (
    Permission(
        "Where there is no metrics server, usage comes from the kubelets' statistics; `nodes/proxy`, which runs "
        "commands, is not needed for them.", ("get",), ("nodes/stats",),
    ),
)  # fmt: skip


def own_secret(secret: str) -> tuple[Permission, ...]:
    """Return what keeps the agent's key in one Secret of its namespace."""
    return (
        Permission(
            "The first pod keeps the agent's key in this Secret; further ones read it, and a changed key replaces it.",
            ("get", "update", "patch"), ("secrets",), names=(secret,),
        ),
        Permission(
            "The first pod makes the Secret. RBAC cannot limit creating to one name; nothing else in the namespace can "
            "be read or changed by it.", ("create",), ("secrets",),
        ),
    )  # fmt: skip


# -- what the roles of people may do ---------------------------------------------------------------

DISCOVERY = Permission(
    "Every client asks what there is, for the version and for health.", ("get",), (), (),
    urls=("/api", "/api/*", "/apis", "/apis/*", "/version", "/version/", "/healthz", "/healthz/*", "/livez", "/livez/*",
          "/readyz", "/readyz/*", "/openapi", "/openapi/*"),
)  # fmt: skip

VIEWER = (
    DISCOVERY,
    Permission(
        "Who looks sees what runs and how it is set up; Secrets are missing on purpose, and so are logs, which often "
        "hold some.", READ,
        ("pods", "pods/status", "services", "services/status", "endpoints", "configmaps", "events", "limitranges",
         "resourcequotas", "resourcequotas/status", "replicationcontrollers", "replicationcontrollers/status",
         "replicationcontrollers/scale", "serviceaccounts", "podtemplates", "persistentvolumeclaims",
         "persistentvolumeclaims/status", "nodes", "nodes/status", "namespaces", "namespaces/status",
         "persistentvolumes", "persistentvolumes/status"),
    ),
    Permission("Workloads and their progress.", READ, (*WORKLOADS, "*/status", "*/scale"), ("apps",)),
    Permission("Jobs, autoscalers, disruption budgets.", READ, ("*",), ("batch", "autoscaling", "policy")),
    Permission("How traffic comes in.", READ, ("*",), ("networking.k8s.io", "discovery.k8s.io")),
    Permission("Where data lies, and what classes there are.", READ, ("*",),
               ("storage.k8s.io", "scheduling.k8s.io", "node.k8s.io")),
    Permission("Which kinds of objects the cluster knows.", READ, ("customresourcedefinitions",),
               ("apiextensions.k8s.io",)),
    Permission("Which groups of the API other servers serve.", READ, ("apiservices",), ("apiregistration.k8s.io",)),
    Permission("Who may do what, to find out why one is refused.", READ, ("*",), ("rbac.authorization.k8s.io",)),
    Permission("Events by their newer address, leases of controllers.", READ, ("events", "leases"),
               ("events.k8s.io", "coordination.k8s.io")),
    Permission("`kubectl top`.", ("get", "list"), ("nodes", "pods"), ("metrics.k8s.io",)),
    Permission("`kubectl auth can-i` and `auth whoami`.", ("create",),
               ("selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews"),
               ("authorization.k8s.io", "authentication.k8s.io")),
)  # fmt: skip

OPERATOR = (
    Permission("Logs say what is wrong.", ("get",), ("pods/log",)),
    Permission(
        "Shells, attaching and port-forwards. From Kubernetes 1.35 on both verbs are asked for, whatever the client "
        "sends.", ("get", "create"), ("pods/exec", "pods/attach", "pods/portforward"),
    ),
    Permission("Debug containers (`kubectl debug`).", ("get", "update", "patch"), ("pods/ephemeralcontainers",)),
    Permission("A pod that hangs is made anew by deleting or evicting it.", ("delete",), ("pods",)),
    Permission("A pod that hangs is made anew by deleting or evicting it.", ("create",), ("pods/eviction",)),
    Permission("Scaling.", ("update", "patch"), ("deployments/scale", "statefulsets/scale", "replicasets/scale"),
               ("apps",)),
    Permission("Scaling.", ("update", "patch"), ("replicationcontrollers/scale",)),
    Permission("Pages of workloads, to look at.", ("get",), ("services/proxy", "pods/proxy")),
    Permission("Tools note what they did.", ("create",), ("events",), ("", "events.k8s.io")),
)  # fmt: skip

DEPLOYER = (
    Permission(
        "Deploying is writing everything that a workload is made of; charts keep their releases in Secrets.", ALL,
        ("pods", "pods/status", "services", "services/status", "endpoints", "configmaps", "secrets", "events",
         "limitranges", "resourcequotas", "replicationcontrollers", "replicationcontrollers/status",
         "replicationcontrollers/scale", "serviceaccounts", "podtemplates", "persistentvolumeclaims",
         "persistentvolumeclaims/status"),
    ),
    Permission("Workloads, scaled and restarted.", ALL, ("*",), ("apps", "batch", "autoscaling")),
    Permission("Disruption budgets.", ALL, ("poddisruptionbudgets", "poddisruptionbudgets/status"), ("policy",)),
    Permission("Ingresses and network policies.", ALL,
               ("ingresses", "ingresses/status", "networkpolicies"), ("networking.k8s.io",)),
    Permission("Slices of endpoints, leases, events.", ALL, ("endpointslices", "leases", "events"),
               ("discovery.k8s.io", "coordination.k8s.io", "events.k8s.io")),
    Permission("Calling workloads through the API server.", ALL, ("services/proxy", "pods/proxy")),
)  # fmt: skip

ADMIN = (
    Permission(
        "Administering is everything, nodes and roles included. The verbs escalate, bind and impersonate are missing "
        "on purpose: no role may hand out more than it has. (Whoever may mint tokens of every service account, as this "
        "role may, can still take the rights of one.)", ALL, ("*",), ("*",),
    ),
    Permission("Metrics, logs and debugging pages of the API server.", ("get",), (), (), urls=("*",)),
    Permission("`kubectl certificate approve` asks for this verb on a signer.", ("approve", "sign"), ("signers",),
               ("certificates.k8s.io",)),
)  # fmt: skip

ROLE_PERMISSIONS: dict[str, tuple[Permission, ...]] = {
    "viewer": VIEWER,
    "operator": OPERATOR,
    "deployer": DEPLOYER,
    "admin": ADMIN,
}
"""What each role adds to the one before; `owner` is `admin` inside a cluster."""


def held_by(role: str, profile: Profile) -> tuple[str, ...]:
    """Return which sets of permissions the group of a role is bound to."""
    if profile is Profile.READ_ONLY:
        return ("viewer",)
    known = tuple(ROLE_PERMISSIONS)
    return known[: known.index("admin" if role == "owner" else role) + 1]


def bindings(profile: Profile) -> dict[str, tuple[str, ...]]:
    """Return for each set of permissions the roles whose groups hold it; none of an admin inside mere namespaces."""
    found: dict[str, list[str]] = {}
    for role in ROLES:
        for held in held_by(role, profile):
            if held != "admin" or profile is not Profile.NAMESPACED:
                found.setdefault(held, []).append(role)
    return {held: tuple(roles) for held, roles in found.items()}
