"""How a command ends when it does not end well."""

from towline.agent.errors import AgentError


class CommandEnds(AgentError):
    """The command is over: its exit code, and the words for its standard error."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotAnnounced(AgentError):
    """A request was about to be made that the plan did not name: nobody has decided about it."""


SUCCEEDED, FAILED, CANCELLED, TIMED_OUT = 0, 1, 130, 124
"""Exit codes, as of shells: 128 + SIGINT for a cancelled one, and what `timeout` answers."""
