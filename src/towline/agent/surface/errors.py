"""What the surface refuses, with the codes and the shape of the control plane's API. No HTTP library here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline.agent.errors import AgentError, DockerAway, DockerError, DockerNotFound, KubernetesError, PolicyRefused

STATUSES: Mapping[str, int] = {
    "bad_request": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "cross_site": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "too_large": 413,
    "throttled": 429,
    "internal": 500,
    "unavailable": 503,
}
"""Every code that the surface answers with. The same words mean the same in docs/reference/errors.md."""


class SurfaceError(AgentError):
    """Ends a request. `headers` go with the answer; nothing of a secret may be in any of it."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        detail: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`detail` is for programs."""
        super().__init__(message)
        self.detail = dict(detail or {})
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        return STATUSES[self.code]

    def body(self, request_id: str = "") -> dict[str, Any]:
        """Return the JSON of the answer."""
        told = {"code": self.code, "message": self.message, "hint": self.hint}
        return {"error": {**told, "detail": self.detail, "request_id": request_id}}


def bad_parameter(name: str, problem: str) -> SurfaceError:
    """Return the error for a parameter; `problem` continues the name, as in `must be a whole number`."""
    return SurfaceError("bad_request", f"{name} {problem}", detail={"parameter": name})


def unavailable(what: str, reason: str) -> SurfaceError:
    """Return the error for something that the agent needs and that does not answer now."""
    return SurfaceError("unavailable", f"{what} cannot be used: {reason}")


def translated(error: AgentError) -> SurfaceError:
    """Return what a failure of one of the agent's parts is to the caller."""
    match error:
        case SurfaceError():
            return error
        case PolicyRefused():
            return SurfaceError("forbidden", str(error))
        case DockerNotFound():
            return SurfaceError("not_found", str(error))
        case DockerError(status=status) if 400 <= status < 500 and not isinstance(error, DockerAway):
            return SurfaceError("bad_request", str(error))
        case DockerError():
            return unavailable("Docker", str(error))
        case KubernetesError():
            return unavailable("Kubernetes", str(error))
        case _:
            return SurfaceError("unavailable", str(error))
