"""The slow half of kubectl's plugin: asks the control plane for a token."""

import time

from towline.cli import credentials
from towline.cli.client import Client
from towline.cli.credentials import Login
from towline.cli.errors import NOT_ALLOWED, CliError
from towline.cli.kube.plugin import Kept, Refused


def mint(server: str, token: str, authority: str) -> Kept:
    """Ask for a token. Its end is told by this machine's clock, which kubectl compares it with. Raises: Refused.

    Args: authority: what the kubeconfig trusts; what `towline login` pinned goes first.
    """
    stored = credentials.load_all().get(server)
    pinned = (stored.authority if stored else "") or authority
    asked_at = time.time()
    try:
        api = Client(Login(server, token, authority=pinned))
        try:
            made = api.post("kubernetes/token")
        finally:
            api.close()
    except CliError as error:
        hint = f"; run: towline login {server}" if error.code == NOT_ALLOWED else ""
        raise Refused(f"{error.message}{hint}", error.code) from error
    lifetime = float(made["expires_in"])
    return {"token": made["token"], "expires": asked_at + lifetime, "lifetime": lifetime}
