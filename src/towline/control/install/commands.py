"""The line that an operator pastes on a host. Pure.

It needs `sh` and `curl`. The token reaches the installer on standard input: `printf` is part of the shell, so that it
is in no process list. The script comes over a connection whose key is pinned, so that nobody in between can change it.
"""

import shlex

from towline.control.agents.identity import ServerIdentity


def join_command(identity: ServerIdentity, token: str) -> str:
    """Return the line for one join token."""
    url = identity.urls[0] if identity.urls else identity.origin
    fetch = " ".join(["curl", "-fsS", *pin_options(identity), shlex.quote(f"{url}/install")])
    return f"""printf %s {shlex.quote(token)} | sh -c "$({fetch})" towline-install"""


def pin_options(identity: ServerIdentity) -> list[str]:
    """Return curl's options: with an authority of our own, the server's public key instead of the system's trust."""
    if not identity.spki_pins:
        return []
    return ["-k", "--pinnedpubkey", shlex.quote(";".join(identity.spki_pins))]
