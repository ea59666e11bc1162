"""What can go wrong in the agent, as exceptions.

AgentError
 ├ SettingsError       a file or variable says something that cannot be
 ├ IdentityError       the state folder holds no usable identity
 ├ JoinError           the control plane did not take this host in; `hint` says what to do
 ├ DockerError         the engine answered with an error; `status` is its HTTP status
 │  ├ DockerNotFound
 │  └ DockerAway       it did not answer at all; the reason is in an operator's words
 ├ KubernetesError     the API server beside the agent cannot be used; the reason is in an operator's words
 │  └ KubernetesAbsent    there is none that the agent was told of
 ├ PolicyRefused       the host's own policy forbids it
 ├ StorageError        the disk did not take what must be on it
 └ JobFailed           a job ends here: code, message and detail go to the control plane
"""

from towline.wire.orders import Detail


class AgentError(Exception):
    """Root of the tree. The text is for the person who runs the agent."""


class SettingsError(AgentError):
    """A setting is unknown or unusable."""


class IdentityError(AgentError):
    """The host has not joined, or its identity cannot be read."""


class JoinError(AgentError):
    """The control plane refused, or could not be asked."""

    def __init__(self, message: str, *, hint: str = "", code: str = "", reason: str = "") -> None:
        """`reason` tells refusals of one code apart, as the control plane does: used, expired, revoked, …"""
        super().__init__(message)
        self.hint = hint
        self.code = code
        self.reason = reason


class DockerError(AgentError):
    """The engine answered with an error."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class DockerNotFound(DockerError):
    """No such container, image or network."""


class DockerAway(DockerError):
    """The engine cannot be reached, or went away in the middle of an answer."""


class KubernetesError(AgentError):
    """The API server cannot be reached, or does not take the agent's credentials."""


class KubernetesAbsent(KubernetesError):
    """The agent serves no Kubernetes."""


class PolicyRefused(AgentError):
    """The policy file of this host forbids it."""


class StorageError(AgentError):
    """A file that must be on disk is not."""


class JobFailed(AgentError):
    """Ends a job. `code` is one of `wire.orders.CODES`."""

    def __init__(self, code: str, message: str, detail: Detail | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.detail = detail
