"""A stream that the agent does not serve, with the code and the words that the opener gets."""

from __future__ import annotations

from towline.agent.errors import (
    DockerError,
    DockerNotFound,
    KubernetesAbsent,
    KubernetesError,
    PolicyRefused,
    StorageError,
)


class Refused(Exception):
    """`code` is one of those in `towline.wire.streams.Answer`."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def as_refusal(error: Exception) -> Refused:
    """Say in the opener's codes what went wrong before a stream was accepted."""
    match error:
        case Refused():
            return error
        case PolicyRefused():
            return Refused("forbidden", str(error))
        case DockerNotFound():
            return Refused("not_found", str(error))
        case DockerError(status=400):
            return Refused("bad_request", str(error))
        case KubernetesAbsent():
            return Refused("unsupported", str(error))
        case DockerError() | StorageError() | KubernetesError():
            return Refused("unreachable", str(error))
        case _:
            return Refused("unreachable", "the agent failed to serve this stream; its log says more")
