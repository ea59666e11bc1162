"""Rules of manifests: who may have one, the join token in it, and how many instances its agent may run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sqlalchemy import select, update

import towline
from towline.control.access.actor import Access
from towline.control.access.permissions import Permission, Resource
from towline.control.agents.identity import IdentitySource
from towline.control.agents.join_tokens import JoinTokens, Minted, Wanted
from towline.control.agents.models import Agent
from towline.control.agents.states import CONNECTABLE
from towline.control.audit.service import AuditLog
from towline.control.clusters import repository as clusters
from towline.control.clusters.models import Cluster
from towline.control.db import Database
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.manifest import Place, render
from towline.control.kubernetes.manifest_local import minted as local_tokens
from towline.control.kubernetes.options import BadOption, Options

_SERVED = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""Names that `/k8s/clusters/NAME` takes."""
_SERVER = re.compile(r"https://[A-Za-z0-9.:\[\]-]{1,255}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants a manifest of."""

    cluster: str
    options: Options
    server: str = ""
    """Address that the pods dial; empty: the first one that this server is known by."""
    labels: dict[str, str] = field(default_factory=dict)
    ttl: float = 3600.0
    approval_required: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """A manifest; it holds the token's text."""

    text: str = field(repr=False)
    token: Minted
    replaces: bool
    """The cluster has an agent already, which ends when the new one joins."""


class Manifests:
    """Makes manifests."""

    def __init__(self, db: Database, audit: AuditLog, join_tokens: JoinTokens, identity: IdentitySource) -> None:
        self._db = db
        self._audit = audit
        self._join_tokens = join_tokens
        self._identity = identity

    async def make(self, access: Access, asked: Asked) -> Made:
        """Make a join token for a cluster and the manifest around it.

        For a cluster that exists the token lets its agent join again; its present one may run as many instances as
        the manifest says from now on, so that applying it to scale needs no new agent.
        Raises: ApiError: invalid, forbidden, cluster_not_found.
        """
        access.require_org(Permission.JOIN_TOKEN_MANAGE)
        place = self._place(asked)
        _tried(asked.options, place)
        known = await self._cluster(access, asked.cluster)
        wanted = Wanted(
            cluster_name=known.name if known else asked.cluster,
            rejoin=known is not None,
            labels=asked.labels,
            ttl=asked.ttl,
            max_uses=1,
            approval_required=asked.approval_required,
            max_instances=asked.options.instances,
        )
        minted = await self._join_tokens.create(access, wanted)
        replaces = await self._declare(access, wanted.cluster_name, known, asked.options, minted)
        ready = Place(wanted.cluster_name, place.server, place.fingerprints, minted.token, local_tokens())
        return Made(render(asked.options, ready), minted, replaces)

    def _place(self, asked: Asked) -> Place:
        identity = self._identity()
        server = asked.server or (identity.urls[0] if identity.urls else identity.origin)
        if asked.server and asked.server not in identity.urls and _SERVER.fullmatch(asked.server) is None:
            raise ApiError(ErrorCode.INVALID, "server must be an address like https://towline.example:8443")
        return Place(asked.cluster, server, tuple(identity.fingerprints), "twj_")

    async def _cluster(self, access: Access, name: str) -> Cluster | None:
        async with self._db.read() as tx:
            row = await clusters.find(tx, access.org_id, name)
        if row is not None:
            access.require(Permission.CLUSTER_MANAGE, Resource(access.org_id, row.id))
        elif _SERVED.fullmatch(name) is None:
            raise ApiError(
                ErrorCode.INVALID, "a Kubernetes cluster's name has lower-case letters, digits and - in between"
            )
        return row

    async def _declare(
        self, access: Access, name: str, known: Cluster | None, options: Options, minted: Minted
    ) -> bool:
        """Note how many instances the present agent may run. Returns: whether there is one."""
        async with self._db.begin() as tx:
            present = False
            if known is not None:
                where = (Agent.cluster_id == known.id, Agent.state.in_(CONNECTABLE))
                several = update(Agent).where(*where, Agent.max_instances > 1)
                await tx.execute(several.values(max_instances=options.instances))
                present = (await tx.execute(select(Agent.id).where(*where).limit(1))).first() is not None
            detail = {
                "profile": str(options.profile), "replicas": options.replicas, "image": options.image,
                "namespace": options.namespace, "join_token": minted.row.id,
            }  # fmt: skip
            await self._audit.record(
                tx, access.actor, action="cluster.manifest", target_kind="cluster",
                target_id=known.id if known else "", target_name=name, cluster_id=known.id if known else "",
                detail=detail,
            )  # fmt: skip
        return present


def default_image() -> str:
    """Return the name that the image has when it is built as its Dockerfile says."""
    return f"towline-agent:{towline.__version__}"


def _tried(options: Options, place: Place) -> None:
    """Find out before a token is made whether there can be a manifest. Raises: ApiError: invalid."""
    try:
        render(options, place)
    except BadOption as error:
        raise ApiError(ErrorCode.INVALID, str(error)) from error
