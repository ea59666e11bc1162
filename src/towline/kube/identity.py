"""Who a request is made for inside a cluster, and the header lines that say so.

Both ends check the same rules: the control plane before it asks, the agent before it believes. Names carry a prefix
that no cluster uses, because a bare `system:kube-controller-manager` would be the controller manager. An empty user
would mean no impersonation at all, hence the agent's own rights. Source: kubernetes.md 4.1.7, 4.1.8, 4.3 and 6.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from towline.kube.errors import BadIdentity as BadIdentity

PREFIX = "towline:"
ROLE_PREFIX = "towline:role:"
TEAM_PREFIX = "towline:team:"
EXTRA_PREFIX = "towline.dev/"
REQUEST_ID_KEY = "towline.dev/request-id"
AUTHENTICATED = "system:authenticated"
"""The one group of the system's own that may be named; the API server adds it to everybody anyway."""

_NAME = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # ASCII, no control characters, no blank that a header would lose
_EXTRA_KEY = re.compile(r"towline\.dev/[a-z0-9](?:[-a-z0-9._]*[a-z0-9])?")
_UNENCODED = re.compile(r"[^!#$&'*+\-.^_`|~0-9a-z]")

LINES_CACHE_SIZE = 256  # identities seen lately: one for each user who works at the moment

Line = tuple[bytes, bytes]
"""(name, value)"""
_Extra = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of ours as a cluster's audit log shows him."""

    user: str
    groups: Sequence[str]
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict)


def check(identity: Identity) -> None:
    """Refuse an identity that must not be asserted.

    Raises: BadIdentity: the user is empty or without our prefix; there is no group; a group has neither our prefix nor
    is system:authenticated; a name cannot be said in a header; an extra key is not ours.
    """
    _check_name("user", identity.user)
    if not identity.user.startswith(PREFIX) or len(identity.user) == len(PREFIX):
        raise BadIdentity("a user's name inside a cluster begins with 'towline:'")
    if not identity.groups:
        raise BadIdentity("an identity needs at least one group")
    for group in identity.groups:
        _check_name("group", group)
        if group != AUTHENTICATED and (not group.startswith(PREFIX) or len(group) == len(PREFIX)):
            raise BadIdentity("a group's name inside a cluster begins with 'towline:'")
    for key, values in identity.extra.items():
        if _EXTRA_KEY.fullmatch(key) is None:
            raise BadIdentity("an extra key of an identity begins with 'towline.dev/' and is in lower case")
        for value in values:
            _check_name("extra value", value)


def _check_name(what: str, name: str) -> None:
    if _NAME.fullmatch(name) is None:
        raise BadIdentity(f"the {what} of an identity is empty or holds characters that a header cannot carry")


def impersonation(identity: Identity, request_id: str) -> list[Line]:
    """Return the header lines that make a request this identity's; each group is a line of its own.

    `request_id` lands in the cluster's audit log, so that both audits join; empty leaves it out.
    Raises: BadIdentity.
    """
    extra = tuple((key, tuple(values)) for key, values in identity.extra.items())
    lines = list(_lines(identity.user, tuple(identity.groups), extra))
    if request_id:
        _check_name("request id", request_id)
        lines.append((_REQUEST_ID_NAME, request_id.encode("ascii")))
    return lines


@functools.lru_cache(maxsize=LINES_CACHE_SIZE)
def _lines(user: str, groups: tuple[str, ...], extra: _Extra) -> tuple[Line, ...]:
    check(Identity(user, groups, dict(extra)))
    lines = [(b"Impersonate-User", user.encode("ascii"))]
    lines += [(b"Impersonate-Group", group.encode("ascii")) for group in groups]
    for key, values in extra:
        if key != REQUEST_ID_KEY:
            lines += [(_extra_name(key), value.encode("ascii")) for value in values]
    return tuple(lines)


def _extra_name(key: str) -> bytes:
    encoded = _UNENCODED.sub(lambda match: f"%{ord(match[0]):02X}", key)
    return b"Impersonate-Extra-" + encoded.encode("ascii")


_REQUEST_ID_NAME = _extra_name(REQUEST_ID_KEY)
