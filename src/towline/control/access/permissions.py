"""Permissions and the roles that hold them: one set everywhere. Pure data, and the rules of what covers what.

Scopes are grants' reach: an organisation, labels, a cluster, a project, a namespace. No database here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true


class Permission(StrEnum):
    """What a handler may need. The value is the stable word for programs."""

    SELF = "self"
    """Whoami, own sessions, own tokens, own password."""
    CLUSTER_READ = "cluster.read"
    CLUSTER_MANAGE = "cluster.manage"
    JOIN_TOKEN_MANAGE = "join_token.manage"  # noqa: S105 - a permission, not a secret
    DEPLOYMENT_READ = "deployment.read"
    DEPLOYMENT_WRITE = "deployment.write"
    """Deploy, roll back, remove, scale, adopt."""
    DEPLOYMENT_OPERATE = "deployment.operate"
    """Stop, start, restart."""
    LOGS_READ = "logs.read"
    EXEC_OPEN = "exec.open"
    FORWARD_OPEN = "forward.open"
    COMMAND_RUN = "command.run"
    """Commands on clusters; what each may do there is asked besides, as for kubectl and for deployments."""
    JOB_READ = "job.read"
    JOB_CANCEL = "job.cancel"
    REGISTRY_READ = "registry.read"
    REGISTRY_MANAGE = "registry.manage"
    ROUTE_READ = "route.read"
    """Routes, domains and certificates."""
    ROUTE_WRITE = "route.write"
    """Publish, change, accept, refuse, unpublish."""
    DOMAIN_MANAGE = "domain.manage"
    """Say and prove which domains are the organisation's."""
    USER_READ = "user.read"
    USER_MANAGE = "user.manage"
    TOKEN_MANAGE = "token.manage"  # noqa: S105
    """Tokens of others."""
    AUDIT_READ = "audit.read"
    RECORDING_READ = "recording.read"
    """Play the recorded sessions of others; everybody may play their own."""
    RECORDING_REMOVE = "recording.remove"
    ALERT_READ = "alert.read"
    ALERT_SILENCE = "alert.silence"
    ALERT_MANAGE = "alert.manage"
    """Rules and channels."""
    ORG_MANAGE = "org.manage"


class Role(StrEnum):
    """Each role holds all that the one before it holds."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    DEPLOYER = "deployer"
    ADMIN = "admin"
    OWNER = "owner"


_P = Permission
_ADDED: Mapping[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset(
        {_P.SELF, _P.CLUSTER_READ, _P.DEPLOYMENT_READ, _P.JOB_READ, _P.REGISTRY_READ, _P.ROUTE_READ, _P.ALERT_READ}
    ),
    Role.OPERATOR: frozenset(
        {
            _P.LOGS_READ,
            _P.EXEC_OPEN,
            _P.DEPLOYMENT_OPERATE,
            _P.JOB_CANCEL,
            _P.FORWARD_OPEN,
            _P.ALERT_SILENCE,
            _P.COMMAND_RUN,
        }
    ),
    Role.DEPLOYER: frozenset({_P.DEPLOYMENT_WRITE, _P.ROUTE_WRITE}),
    Role.ADMIN: frozenset(
        {
            _P.CLUSTER_MANAGE,
            _P.JOIN_TOKEN_MANAGE,
            _P.USER_READ,
            _P.USER_MANAGE,
            _P.TOKEN_MANAGE,
            _P.REGISTRY_MANAGE,
            _P.DOMAIN_MANAGE,
            _P.AUDIT_READ,
            _P.RECORDING_READ,
            _P.ALERT_MANAGE,
        }
    ),
    Role.OWNER: frozenset({_P.ORG_MANAGE, _P.RECORDING_REMOVE}),
}

ROLE_ORDER = tuple(Role)
PERMISSIONS: Mapping[Role, frozenset[Permission]] = {
    role: frozenset().union(*(_ADDED[lower] for lower in ROLE_ORDER[: place + 1]))
    for place, role in enumerate(ROLE_ORDER)
}

ORG_WIDE = frozenset(
    {
        _P.USER_READ,
        _P.USER_MANAGE,
        _P.TOKEN_MANAGE,
        _P.AUDIT_READ,
        _P.ORG_MANAGE,
        _P.REGISTRY_MANAGE,
        _P.DOMAIN_MANAGE,
        _P.JOIN_TOKEN_MANAGE,
        _P.ALERT_MANAGE,
    }
)
"""Permissions that a grant on a part of the organisation never gives: they are about all of it, or make new parts."""


class ScopeKind(StrEnum):
    ORG = "org"
    SELECTOR = "selector"
    CLUSTER = "cluster"
    PROJECT = "project"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class Resource:
    """What a permission is asked for. Empty fields: not part of any."""

    org_id: str
    cluster_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a grant holds. For `project` and `namespace` an empty cluster means: on any cluster."""

    kind: ScopeKind = ScopeKind.ORG
    selector: tuple[tuple[str, str], ...] = ()
    cluster_id: str = ""
    project: str = ""
    namespace: str = ""

    def covers(self, resource: Resource) -> bool:
        match self.kind:
            case ScopeKind.ORG:
                return True
            case ScopeKind.SELECTOR:
                return bool(self.selector) and all(resource.labels.get(key) == value for key, value in self.selector)
            case ScopeKind.CLUSTER:
                return bool(self.cluster_id) and self.cluster_id == resource.cluster_id
            case ScopeKind.PROJECT:
                return self._same_cluster(resource) and bool(self.project) and self.project == resource.project
            case ScopeKind.NAMESPACE:
                return self._same_cluster(resource) and bool(self.namespace) and self.namespace == resource.namespace

    def _same_cluster(self, resource: Resource) -> bool:
        return self.cluster_id in ("", resource.cluster_id)

    def as_json(self) -> dict[str, Any]:
        """Return the form that the API speaks."""
        fields = {"cluster_id": self.cluster_id, "project": self.project, "namespace": self.namespace}
        named: dict[str, Any] = {name: value for name, value in fields.items() if value}
        if self.selector:
            named["selector"] = dict(self.selector)
        return {"kind": self.kind.value, **named}


@dataclass(frozen=True, slots=True)
class Right:
    """One role at one place."""

    role: Role
    reach: Reach = Reach()

    def gives(self, permission: Permission) -> bool:
        """Tell whether the permission is given anywhere at all."""
        held = permission in PERMISSIONS[self.role]
        return held and (self.reach.kind is ScopeKind.ORG or permission not in ORG_WIDE)

    def allows(self, permission: Permission, resource: Resource) -> bool:
        return self.gives(permission) and (permission is Permission.SELF or self.reach.covers(resource))


@dataclass(frozen=True, slots=True)
class Rights:
    """All that somebody may: any of `granted`, and, with a limited token, also any of `limit`."""

    granted: tuple[Right, ...] = ()
    limit: tuple[Right, ...] | None = None

    def gives(self, permission: Permission) -> bool:
        """Tell whether the permission is held at some place."""
        return _any_gives(self.granted, permission) and (self.limit is None or _any_gives(self.limit, permission))

    def allows(self, permission: Permission, resource: Resource) -> bool:
        if not any(right.allows(permission, resource) for right in self.granted):
            return False
        return self.limit is None or any(right.allows(permission, resource) for right in self.limit)

    def sees(self, resource: Resource) -> bool:
        """Tell whether the resource exists for this actor at all: every role sees what it reaches."""
        return any(right.reach.covers(resource) for right in self.granted) and (
            self.limit is None or any(right.reach.covers(resource) for right in self.limit)
        )

    def permissions(self) -> list[Permission]:
        """Return what is held at some place, for showing."""
        return [permission for permission in Permission if self.gives(permission)]

    def scope(self, permission: Permission) -> Scope:
        """Return where the permission is held, for filtering a list."""
        limit = self.limit
        return Scope(
            tuple(right.reach for right in self.granted if right.gives(permission)),
            None if limit is None else tuple(right.reach for right in limit if right.gives(permission)),
        )


SYSTEM_RIGHTS = Rights((Right(Role.OWNER),))
"""What our own loops act with."""

MatchesSelector = Callable[[Mapping[str, str]], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a permission is held: a row is seen when any of `reaches` covers it, and any of `limit` if there is one."""

    reaches: tuple[Reach, ...]
    limit: tuple[Reach, ...] | None = None

    @property
    def everything(self) -> bool:
        """True when no filter beside the organisation is needed."""
        return _has_org(self.reaches) and (self.limit is None or _has_org(self.limit))

    @property
    def nothing(self) -> bool:
        return not self.reaches or (self.limit is not None and not self.limit)

    def covers(self, resource: Resource) -> bool:
        """The same rule for one resource in memory."""
        inside = any(reach.covers(resource) for reach in self.reaches)
        return inside and (self.limit is None or any(reach.covers(resource) for reach in self.limit))

    def clause(
        self,
        *,
        cluster_id: ColumnElement[str] | Any,
        matches_selector: MatchesSelector,
        project: ColumnElement[str] | Any | None = None,
        namespace: ColumnElement[str] | Any | None = None,
    ) -> ColumnElement[bool]:
        """Return the filter for a list's query. The organisation is the caller's to filter by as well.

        Args: matches_selector: builds the condition that the row's cluster carries these labels.
            project, namespace: the row's columns; without one, such grants show nothing of this list.
        """

        def one(reach: Reach) -> ColumnElement[bool]:
            return _clause(reach, cluster_id, matches_selector, project, namespace)

        inside = or_(false(), *(one(reach) for reach in self.reaches))
        return inside if self.limit is None else and_(inside, or_(false(), *(one(reach) for reach in self.limit)))


def _clause(
    reach: Reach, cluster_id: Any, matches_selector: MatchesSelector, project: Any | None, namespace: Any | None
) -> ColumnElement[bool]:
    here: ColumnElement[bool] = cluster_id == reach.cluster_id if reach.cluster_id else true()
    match reach.kind:
        case ScopeKind.ORG:
            return true()
        case ScopeKind.SELECTOR:
            return matches_selector(dict(reach.selector)) if reach.selector else false()
        case ScopeKind.CLUSTER:
            return here if reach.cluster_id else false()
        case ScopeKind.PROJECT:
            return and_(here, project == reach.project) if project is not None and reach.project else false()
        case ScopeKind.NAMESPACE:
            return and_(here, namespace == reach.namespace) if namespace is not None and reach.namespace else false()


def _any_gives(rights: Iterable[Right], permission: Permission) -> bool:
    return any(right.gives(permission) for right in rights)


def _has_org(reaches: Iterable[Reach]) -> bool:
    return any(reach.kind is ScopeKind.ORG for reach in reaches)
