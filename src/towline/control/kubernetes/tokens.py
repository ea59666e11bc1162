"""Who sends a request: its bearer token and nothing else. Cookies are never taken, so no page of another site and no
page that a workload serves can act for somebody.

What was found is kept by `access.service` for two seconds; that a token is unknown is kept here as long.
"""

from __future__ import annotations

from towline.aio.clock import Clock
from towline.control.access import secrets
from towline.control.access.service import AccessService, Principal
from towline.control.errors import ApiError, ErrorCode
from towline.kube.heads import Fields

UNKNOWN_SECONDS = 2.0
"""A program with a dead token that asks in a loop costs one query in this time."""
UNKNOWN_ENTRIES = 5000
_SCHEME = b"bearer "
_TOKEN_PROTOCOL = b"base64url.bearer.authorization.k8s.io."


class Bearers:
    """Finds out who a token speaks for."""

    def __init__(self, access: AccessService, clock: Clock) -> None:
        self._access = access
        self._clock = clock
        self._unknown: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Bearers {len(self._unknown)} unknown>"

    def known(self, token: str) -> Principal | None:
        """Return who a token speaks for when that costs nothing."""
        return self._access.known_token(token)

    async def find(self, token: str, peer: str) -> Principal | None:
        """Return who a token speaks for; None for one that is malformed, unknown, expired or revoked.

        Raises: ApiError: throttled, after too many unknown ones; unavailable.
        """
        if not secrets.is_well_formed(token, ("twl", "tws", "twk")):
            return None
        key, moment = secrets.hashed(token), self._clock.monotonic()
        if self._unknown.get(key, 0.0) > moment:
            return None
        try:
            return await self._access.by_token(token, peer)
        except ApiError as error:
            if error.code is not ErrorCode.UNAUTHENTICATED:
                raise
        if len(self._unknown) >= UNKNOWN_ENTRIES:
            self._unknown.clear()
        self._unknown[key] = moment + UNKNOWN_SECONDS
        return None

    def forget(self) -> None:
        """Forget what was not found: something about access changed."""
        self._unknown.clear()


def of(fields: Fields) -> str:
    """Return the token of a request; empty without one, or with anything else than exactly one."""
    found = [value for name, _, value in fields if name == b"authorization"]
    if len(found) != 1 or found[0][: len(_SCHEME)].lower() != _SCHEME:
        return ""
    return found[0][len(_SCHEME) :].strip(b" ").decode("latin-1")


def is_in_protocol(fields: Fields) -> bool:
    """True when a WebSocket offers a token as a subprotocol: API servers take that as a credential of its own."""
    return any(name == b"sec-websocket-protocol" and _TOKEN_PROTOCOL in value.lower() for name, _, value in fields)
