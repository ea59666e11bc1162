"""Whether somebody may run a command on a cluster, and as whom the agent then does it.

Each request to a cluster's API that the command is made of is judged as the gate in front of `kubectl` judges it, and
the person is the same there. On a Docker host the permissions of deployments decide. Asked when a run begins, again
when a target's turn comes, and again when its order is about to leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from towline.commandline.plan import Level, Plan
from towline.control.access import repository as access_rows
from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import ROLE_ORDER, Permission, Reach, Resource, Right, Rights, Role, ScopeKind
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.commands.models import CommandRun
from towline.control.db import Transaction
from towline.control.kubernetes import heading
from towline.control.kubernetes.grants import judge
from towline.control.kubernetes.identity import groups_of, user_of
from towline.control.kubernetes.places import Place
from towline.control.streams.places import SHORTEST_ID
from towline.kube.errors import BadIdentity
from towline.kube.identity import Identity, check

if TYPE_CHECKING:
    from towline.control.access.service import AccessService

KUBECTL = "kubectl"
_LEVELS = {
    Level.SEE: Permission.CLUSTER_READ,
    Level.OPERATE: Permission.DEPLOYMENT_OPERATE,
    Level.DEPLOY: Permission.DEPLOYMENT_WRITE,
}
_ACTOR_FIELDS = ("kind", "org_id", "user_id", "username", "address", "token_id", "session_id", "request_id")


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a command goes to a cluster; if so, as whom."""

    reason: str = ""
    """Why not, in words for the person who asked; empty when it does."""
    user: str = ""
    groups: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        return not self.reason


def place_of(row: Cluster, labels: Mapping[str, str]) -> Place:
    return Place(row.id, row.org_id, row.name, labels)


def is_visible(access: Access, place: Place) -> bool:
    """Tell whether a cluster exists for somebody: any right reaches it, or a part of it."""
    rights = access.rights
    granted = any(_touches(one.reach, place) for one in rights.granted)
    return (
        place.org_id == access.org_id
        and granted
        and (rights.limit is None or any(_touches(one.reach, place) for one in rights.limit))
    )


def _touches(reach: Reach, place: Place) -> bool:
    if reach.kind in (ScopeKind.PROJECT, ScopeKind.NAMESPACE):
        return reach.cluster_id in ("", place.id)
    return reach.covers(_resource(place))


def serves(row: Cluster, program: str) -> bool:
    """Tell whether a cluster has what a program talks to."""
    if program == KUBECTL:
        return heading.is_kubernetes(row.capabilities)
    return heading.serves_compose(row.capabilities)


async def decide(tx: Transaction, access: Access, place: Place, plan: Plan) -> Decision:
    """Decide whether somebody may run a command on a cluster now."""
    if place.org_id != access.org_id:
        return Decision("there is no such cluster")
    if plan.program == KUBECTL:
        return kubernetes(access, place, plan)
    for project in await _projects(tx, place, plan):
        here = _resource(place, project)
        for permission in (Permission.COMMAND_RUN, _LEVELS[plan.level]):
            if not access.may(permission, here):
                where = f"the project {project}" if project else "this host"
                return Decision(f"you do not have the permission {permission.value} for {where}")
    return Decision(user=user_of(access.actor), groups=groups_of(_roles(access, place, plan.project)))


def kubernetes(access: Access, place: Place, plan: Plan) -> Decision:
    """Judge every request that a command of kubectl is made of; the least of the roles that reach them counts."""
    least: tuple[str, ...] | None = None
    for asked in plan.touches:
        verdict = judge(access.rights, place, asked)
        what = f"{asked.verb} {asked.kind}" + (f" in {asked.namespace}" if asked.namespace else "")
        if not verdict.allowed:
            return Decision(f"you may not {what}: {verdict.rule}")
        if Role.OPERATOR not in verdict.roles:
            return Decision(f"to run commands ({what}) takes the role operator; yours reads, by `towline kubeconfig`")
        least = verdict.roles if least is None or len(verdict.roles) < len(least) else least
    if least is None:
        return Decision("nothing says what this command touches")
    user, groups = user_of(access.actor), groups_of(least)
    try:
        check(Identity(user, groups, {}))
    except BadIdentity as error:
        return Decision(f"you cannot be named inside a cluster: {error}")
    return Decision(user=user, groups=groups)


async def _projects(tx: Transaction, place: Place, plan: Plan) -> set[str]:
    """Return the Compose projects that a command is about; an empty one stands for the whole host."""
    found = set()
    for asked in plan.touches:
        if asked.namespace or asked.resource != "containers" or not asked.name:
            found.add(asked.namespace)
            continue
        container = await clusters.container_named(tx, place.id, asked.name, SHORTEST_ID)
        found.add(container.project if container is not None else "")
    return found or {plan.project}


def _roles(access: Access, place: Place, project: str) -> tuple[str, ...]:
    """Return the roles that somebody has on a host, or in a project there: what the agent's log names."""
    here = _resource(place, project)
    rights = access.rights
    held = [_rank(rights.granted, here), *([] if rights.limit is None else [_rank(rights.limit, here)])]
    return tuple(role.value for role in ROLE_ORDER[: min(held) + 1])


def _rank(rights: Iterable[Right], here: Resource) -> int:
    return max((ROLE_ORDER.index(one.role) for one in rights if one.reach.covers(here)), default=0)


def _resource(place: Place, project: str = "") -> Resource:
    return Resource(place.org_id, place.id, place.labels, project)


# -- whose run it is -----------------------------------------------------------------------------


def remembered(actor: Actor) -> dict[str, str]:
    """Return an actor as a run keeps it."""
    return {name: getattr(actor, name) for name in _ACTOR_FIELDS}


def actor_of(run: CommandRun) -> Actor:
    return Actor(**run.actor)


async def access_of(tx: Transaction, service: AccessService, run: CommandRun) -> Access | None:
    """Return what whoever began a run may do now; None when they may do nothing any more.

    Who signed out since goes on with what they were granted; a token that was revoked does not.
    """
    actor = actor_of(run)
    if actor.token_id:
        found = await service.now(tx, actor)
        return None if found is None else Access(actor, found.rights)
    user = await access_rows.user_by_id(tx, actor.user_id)
    if user is None or not user.active:
        return None
    return Access(actor, Rights(await access_rows.rights_of(tx, actor.org_id, "user", actor.user_id)))
