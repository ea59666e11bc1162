"""What people read about older systems: their names, and what to set on their agents. Pure."""

from collections.abc import Mapping

from towline.control.protocols.names import Protocol

SYSTEMS: Mapping[str, str] = {"pipeops": "PipeOps", "instadeploy": "InstaDeploy"}


def settings_of(protocol: Protocol, origin: str, token: str) -> str:
    """Return the environment that points an agent here. Holds a secret.

    Source: the environment names that those agents read.
    """
    if protocol == "pipeops":
        return f"PIPEOPS_API_URL={origin}\nPIPEOPS_TOKEN={token}"
    socket = origin.replace("https://", "wss://", 1).replace("http://", "ws://", 1)
    return f"SERVER_URL={socket}/ws\nAGENT_TOKEN={token}"
