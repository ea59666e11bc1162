"""Which clusters a command is for, and the entries that lead to them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from towline.cli.client import Client, quoted
from towline.cli.errors import NOT_FOUND, USAGE, CliError
from towline.cli.kube.entries import Server
from towline.cli.output import done

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def clusters_of(api: Client, names: Sequence[str], *, everything: bool, selector: str = "") -> list[str]:
    """Return the names of Kubernetes clusters. Raises: CliError: none, or one that is no such cluster."""
    if names:
        return [_reachable(api.get(f"clusters/{quoted(name)}")) for name in names]
    if not everything and not selector:
        raise CliError("which clusters?", hint="name them, or use --all", code=USAGE)
    found = [one for one in api.items("clusters", selector=selector) if serves_kubernetes(one)]
    for one in found:
        if not _LABEL.fullmatch(one["name"]):
            done(f"{one['name']} is left out: only names like {_suggested(one['name'])} can stand in an address")
    chosen = sorted(one["name"] for one in found if _LABEL.fullmatch(one["name"]))
    if not chosen:
        raise CliError("there is no Kubernetes cluster that you may see", code=NOT_FOUND)
    return chosen


def serves_kubernetes(cluster: dict[str, Any]) -> bool:
    return any(capability["name"] == "kubernetes" for capability in cluster.get("capabilities") or [])


def server_of(api: Client, *, host_form_of: str = "", command: str = "towline") -> Server:
    """Return the control plane for entries.

    Args: host_form_of: a cluster, when each shall have a host name of its own.
    Raises: CliError: host names were asked for, and it has none.
    """
    base_host = _base_host(api, host_form_of) if host_form_of else ""
    named = os.environ.get("TOWLINE_CONFIG_DIR", "")
    environment = {"TOWLINE_CONFIG_DIR": str(Path(named).absolute())} if named else {}
    return Server(api.login.url, api.login.authority, base_host, command, environment)


def _base_host(api: Client, cluster: str) -> str:
    (found,) = api.get("kubernetes/kubeconfig", clusters=cluster)["clusters"]
    host = urlsplit(found["host_server"]).hostname or ""
    if not host:
        hint = "its administrator sets kubernetes_host; see docs/how-to/kubectl.md"
        raise CliError("this server has no host names for clusters", hint=hint)
    return host.removeprefix(f"{cluster}.")


def own_command() -> str:
    """Return the path of this very command, for programs that it starts."""
    here = Path(sys.argv[0])
    if here.is_file() and os.access(here, os.X_OK):
        return str(here.absolute())
    return shutil.which("towline") or "towline"


def _reachable(cluster: dict[str, Any]) -> str:
    name = str(cluster["name"])
    if not serves_kubernetes(cluster):
        raise CliError(f"{name} is no Kubernetes cluster", hint="`towline clusters show` says what it is")
    if not _LABEL.fullmatch(name):
        raise CliError(
            f"{name!r} cannot stand in an address", hint=f"towline clusters rename {name} {_suggested(name)}"
        )
    return name


def _suggested(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "prod"
