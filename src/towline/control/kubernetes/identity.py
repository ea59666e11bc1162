"""Who somebody is inside a cluster. Pure.

The names carry our prefix, so that nobody of ours can be one of the cluster's own: `towline:USERNAME` for people,
`towline:robot:ID` for service tokens, whose names are not unique. A user name holds no colon.
"""

from __future__ import annotations

from towline.control.access.actor import Actor
from towline.kube.identity import PREFIX, ROLE_PREFIX, Identity, check
from towline.wire import streams

SESSION_KEY = "towline.dev/session"


def identity_of(actor: Actor, roles: tuple[str, ...]) -> streams.Kube:
    """Return the identity of a request. Raises: BadIdentity: one that must never reach a cluster."""
    user, groups = user_of(actor), groups_of(roles)
    extra: dict[str, tuple[str, ...]] = {SESSION_KEY: (actor.token_id or actor.session_id,)}
    check(Identity(user, groups, extra))
    return streams.Kube(user=user, groups=groups, extra=extra)


def user_of(actor: Actor) -> str:
    """Return the name that somebody has inside a cluster."""
    return f"{PREFIX}{actor.username}" if actor.user_id else f"{PREFIX}robot:{actor.token_id}"


def groups_of(roles: tuple[str, ...]) -> tuple[str, ...]:
    """Return the groups inside a cluster that go with roles."""
    return tuple(f"{ROLE_PREFIX}{role}" for role in roles)
