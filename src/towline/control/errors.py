"""Every error that the API answers with: stable codes, their HTTP status, and the one exception that carries them.

No FastAPI here: services raise `ApiError` too. The translation into an HTTP answer is in `answers.py`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any


class ErrorCode(StrEnum):
    """Stable words for programs. A code is never renamed; docs/reference/errors.md explains each."""

    BAD_REQUEST = "bad_request"
    INVALID = "invalid"
    UNAUTHENTICATED = "unauthenticated"
    LOGIN_FAILED = "login_failed"
    FORBIDDEN = "forbidden"
    CROSS_SITE = "cross_site"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CLUSTER_NOT_FOUND = "cluster_not_found"
    AGENT_NOT_FOUND = "agent_not_found"
    DEPLOYMENT_NOT_FOUND = "deployment_not_found"
    REVISION_NOT_FOUND = "revision_not_found"
    JOB_NOT_FOUND = "job_not_found"
    USER_NOT_FOUND = "user_not_found"
    TOKEN_NOT_FOUND = "token_not_found"  # noqa: S105 - a code, not a secret
    SESSION_NOT_FOUND = "session_not_found"
    GRANT_NOT_FOUND = "grant_not_found"
    JOIN_TOKEN_NOT_FOUND = "join_token_not_found"  # noqa: S105
    REGISTRY_NOT_FOUND = "registry_not_found"
    BUNDLE_NOT_FOUND = "bundle_not_found"
    CONTAINER_NOT_FOUND = "container_not_found"
    ROUTE_NOT_FOUND = "route_not_found"
    DOMAIN_NOT_FOUND = "domain_not_found"
    CERTIFICATE_NOT_FOUND = "certificate_not_found"
    HOST_REFUSED = "host_refused"
    HOST_TAKEN = "host_taken"
    DOMAIN_UNVERIFIED = "domain_unverified"
    CONFLICT = "conflict"
    NAME_TAKEN = "name_taken"
    LAST_OWNER = "last_owner"
    REVISION_MOVED = "revision_moved"
    SETUP_REQUIRED = "setup_required"
    SETUP_DONE = "setup_done"
    TOO_LARGE = "too_large"
    THROTTLED = "throttled"
    POLICY_VIOLATION = "policy_violation"
    COMPOSE_INVALID = "compose_invalid"
    JOIN_TOKEN_REFUSED = "join_token_refused"  # noqa: S105
    AGENT_KEY_KNOWN = "agent_key_known"
    AGENT_AWAY = "agent_away"
    AGENT_REFUSED = "agent_refused"
    AGENT_TIMEOUT = "agent_timeout"
    AGENT_UNSUPPORTED = "agent_unsupported"
    UNAVAILABLE = "unavailable"
    STORAGE_FULL = "storage_full"
    INTERNAL = "internal"


STATUSES: Mapping[ErrorCode, int] = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.INVALID: 422,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.LOGIN_FAILED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.CROSS_SITE: 403,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.CLUSTER_NOT_FOUND: 404,
    ErrorCode.AGENT_NOT_FOUND: 404,
    ErrorCode.DEPLOYMENT_NOT_FOUND: 404,
    ErrorCode.REVISION_NOT_FOUND: 404,
    ErrorCode.JOB_NOT_FOUND: 404,
    ErrorCode.USER_NOT_FOUND: 404,
    ErrorCode.TOKEN_NOT_FOUND: 404,
    ErrorCode.SESSION_NOT_FOUND: 404,
    ErrorCode.GRANT_NOT_FOUND: 404,
    ErrorCode.JOIN_TOKEN_NOT_FOUND: 404,
    ErrorCode.REGISTRY_NOT_FOUND: 404,
    ErrorCode.BUNDLE_NOT_FOUND: 404,
    ErrorCode.CONTAINER_NOT_FOUND: 404,
    ErrorCode.ROUTE_NOT_FOUND: 404,
    ErrorCode.DOMAIN_NOT_FOUND: 404,
    ErrorCode.CERTIFICATE_NOT_FOUND: 404,
    ErrorCode.HOST_REFUSED: 422,
    ErrorCode.HOST_TAKEN: 409,
    ErrorCode.DOMAIN_UNVERIFIED: 409,
    ErrorCode.CONFLICT: 409,
    ErrorCode.NAME_TAKEN: 409,
    ErrorCode.LAST_OWNER: 409,
    ErrorCode.REVISION_MOVED: 409,
    ErrorCode.SETUP_REQUIRED: 409,
    ErrorCode.SETUP_DONE: 409,
    ErrorCode.TOO_LARGE: 413,
    ErrorCode.THROTTLED: 429,
    ErrorCode.POLICY_VIOLATION: 422,
    ErrorCode.COMPOSE_INVALID: 422,
    ErrorCode.JOIN_TOKEN_REFUSED: 401,
    ErrorCode.AGENT_KEY_KNOWN: 409,
    ErrorCode.AGENT_AWAY: 503,
    ErrorCode.AGENT_REFUSED: 502,
    ErrorCode.AGENT_TIMEOUT: 504,
    ErrorCode.AGENT_UNSUPPORTED: 501,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.STORAGE_FULL: 507,
    ErrorCode.INTERNAL: 500,
}
"""The only place where a code meets an HTTP status."""


EXPLANATIONS: Mapping[ErrorCode, str] = {
    ErrorCode.BAD_REQUEST: "The request cannot be understood; the message says why.",
    ErrorCode.INVALID: "A value is not allowed. `detail.problems` names each field.",
    ErrorCode.UNAUTHENTICATED: "Nobody is signed in, or the token or session has ended. Sign in again.",
    ErrorCode.LOGIN_FAILED: "User name or password is wrong. `towline server reset-admin` helps when all are lost.",
    ErrorCode.FORBIDDEN: "You lack the permission in `detail.permission` here. Ask an administrator for a role.",
    ErrorCode.CROSS_SITE: "A page of another site made the request. Behind a proxy set `public_url`.",
    ErrorCode.NOT_FOUND: "There is nothing here, or nothing that you may see.",
    ErrorCode.METHOD_NOT_ALLOWED: "The address does not take this method; the `Allow` header lists those it takes.",
    ErrorCode.CLUSTER_NOT_FOUND: "No cluster of this name or id that you may see.",
    ErrorCode.AGENT_NOT_FOUND: "The cluster has no such agent.",
    ErrorCode.DEPLOYMENT_NOT_FOUND: "The cluster has no deployment of this name that you may see.",
    ErrorCode.REVISION_NOT_FOUND: "The deployment has no revision of this number.",
    ErrorCode.JOB_NOT_FOUND: "No job of this id that you may see; finished ones are kept for `keep_job_days`.",
    ErrorCode.USER_NOT_FOUND: "No user of this name or id.",
    ErrorCode.TOKEN_NOT_FOUND: "No live token of this id that is yours.",
    ErrorCode.SESSION_NOT_FOUND: "No live session of this id that is yours.",
    ErrorCode.GRANT_NOT_FOUND: "No grant of this id.",
    ErrorCode.JOIN_TOKEN_NOT_FOUND: "No join token of this id.",
    ErrorCode.REGISTRY_NOT_FOUND: "No registry of this name that you may use here.",
    ErrorCode.BUNDLE_NOT_FOUND: "The bundle was never uploaded, or unused for `keep_bundle_days`. Upload it again.",
    ErrorCode.CONTAINER_NOT_FOUND: "No running container fits. `towline clusters containers` lists them.",
    ErrorCode.ROUTE_NOT_FOUND: "No route of this name or id that you may see.",
    ErrorCode.DOMAIN_NOT_FOUND: "The organisation has no domain of this name.",
    ErrorCode.CERTIFICATE_NOT_FOUND: "The organisation has, and needs, no certificate of this name.",
    ErrorCode.HOST_REFUSED: "The organisation may not publish this name; the message says why and what would help.",
    ErrorCode.HOST_TAKEN: "Another route answers for this name and path; the message names it. First come stays.",
    ErrorCode.DOMAIN_UNVERIFIED: "The proof in DNS was not found; the message has the record to set and what was seen.",
    ErrorCode.CONFLICT: "The thing is not in a state that allows this; the message says which.",
    ErrorCode.NAME_TAKEN: "The name is in use. Choose another one.",
    ErrorCode.LAST_OWNER: "An organisation keeps at least one owner. Make another user an owner first.",
    ErrorCode.REVISION_MOVED: "Somebody deployed since you looked. Look at the newest revision, then try again.",
    ErrorCode.SETUP_REQUIRED: "The server has no user yet. Open the one-time address that it printed.",
    ErrorCode.SETUP_DONE: "The first user exists. Sign in.",
    ErrorCode.TOO_LARGE: "The body is over its limit; the message names it.",
    ErrorCode.THROTTLED: "Too many requests. Wait for the seconds in `Retry-After`.",
    ErrorCode.POLICY_VIOLATION: "The project asks for what the policy forbids: `detail.problems` says where.",
    ErrorCode.COMPOSE_INVALID: "The Compose file is not valid; `detail.problems` has line and column.",
    ErrorCode.JOIN_TOKEN_REFUSED: "The join token is wrong, used, expired, revoked or used from a wrong network.",
    ErrorCode.AGENT_KEY_KNOWN: "Another agent has this key: a copied state folder. Remove the copy's and join again.",
    ErrorCode.AGENT_AWAY: "The cluster's agent is not connected. Run `towline agent doctor` on the host.",
    ErrorCode.AGENT_REFUSED: "The agent could not or may not do it; the message has its reason.",
    ErrorCode.AGENT_TIMEOUT: "The agent did not answer in time.",
    ErrorCode.AGENT_UNSUPPORTED: "This agent cannot do it; the message says what it lacks.",
    ErrorCode.UNAVAILABLE: "The server cannot serve this now, usually the database. Try again in a moment.",
    ErrorCode.STORAGE_FULL: "The disk is full; nothing was changed. Free some space.",
    ErrorCode.INTERNAL: "The server failed. Its log tells more under the request id.",
}
"""What each code means and what to do; docs/reference/errors.md shows it."""


class ApiError(Exception):
    """Something that the caller is told, with what to do about it.

    Args: message: what happened, for people. hint: what to do. detail: for programs; never holds input that
        may be secret.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, hint: str = "", detail: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.detail: dict[str, Any] = dict(detail or {})

    def __repr__(self) -> str:
        return f"<ApiError {self.code} {self.message!r}>"

    @property
    def status(self) -> int:
        return STATUSES[self.code]

    def body(self, request_id: str = "") -> dict[str, Any]:
        """Return the JSON of the answer."""
        error: dict[str, Any] = {"code": self.code.value, "message": self.message, "hint": self.hint}
        return {"error": error | {"detail": self.detail, "request_id": request_id}}


def not_found(kind: str, name: str) -> ApiError:
    """Return the error for a thing that is not there, or that the actor may not see. `kind`: e.g. `cluster`."""
    try:
        code = ErrorCode(f"{kind.replace(' ', '_')}_not_found")
    except ValueError:
        code = ErrorCode.NOT_FOUND
    return ApiError(code, f"{kind} {name!r} does not exist, or you may not see it")


class StartupError(Exception):
    """Why the server refuses to start, in one line for the operator."""
