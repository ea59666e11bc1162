"""Taking this host out: its identity is removed. Projects and their files stay, and so does the cluster, as away."""

from __future__ import annotations

from towline.agent import status
from towline.agent.errors import AgentError
from towline.agent.identity import Store
from towline.agent.settings import AgentSettings


class StillRunning(AgentError):
    """The agent runs; it would come back with the identity it has in memory."""


def leave(settings: AgentSettings) -> str:
    """Remove the identity. Returns: the name of the cluster. Raises: IdentityError, StillRunning."""
    left = status.read(settings.state_folder)
    if left is not None and status.is_running(left):
        raise StillRunning(f"the agent runs as process {left.pid}: stop it first")
    store = Store(settings.state_folder)
    name = store.current.cluster_name
    store.forget()
    return name
