"""The entries of a kubeconfig that lead through a control plane. Pure. Source: kubernetes.md, section 8."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from towline.cli.kube.merging import Entry

PREFIX = "/k8s/clusters/"
EXEC_VERSION = "client.authentication.k8s.io/v1"
PLUGIN = "k8s-token"
INSTALL_HINT = "The towline command signs you in to this cluster, and is missing: pip install towline"


@dataclass(frozen=True, slots=True)
class Server:
    """The control plane that the entries lead to."""

    url: str
    authority: str = field(default="", repr=False)
    """PEM of a private authority; empty when the system's trust is enough."""
    base_host: str = ""
    """When set, each cluster gets a host name of its own below it."""
    command: str = "towline"
    environment: Mapping[str, str] = field(default_factory=dict)
    """What the plugin needs to find the same login."""

    @property
    def name(self) -> str:
        """Host, and the port when it is an unusual one."""
        return urlsplit(self.url).netloc

    def address(self, cluster: str) -> str:
        """Return the address of a cluster's API."""
        parts = urlsplit(self.url)
        if not self.base_host:
            return f"{self.url}{PREFIX}{cluster}"
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"{cluster}.{self.base_host}{port}", "", "", ""))

    def authority_data(self) -> str:
        return base64.b64encode(self.authority.encode()).decode() if self.authority else ""


def entries_of(server: Server, clusters: Sequence[str]) -> list[Entry]:
    """Return one user for the control plane, and a cluster and a context for each of its clusters."""
    user = Entry("users", server.name, {"exec": _exec(server)}, is_ours=_is_our_user)
    made = [user]
    for name in clusters:
        made.append(_cluster(server, name))
        context = {"cluster": name, "user": server.name}
        made.append(Entry("contexts", name, context, is_ours=_names_cluster(name), initial={"namespace": "default"}))
    return made


def static_config(server: Server, cluster: str, user: str, token: str) -> dict[str, Any]:
    """Return a kubeconfig that stands alone and holds a token; for robots that cannot run a plugin."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": _where(server, cluster)}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user, "namespace": "default"}}],
        "current-context": cluster,
    }


def plugin_config(server: Server, clusters: Sequence[str]) -> dict[str, Any]:
    """Return a kubeconfig of our entries alone, for one run of kubectl."""
    shown: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    inner = {"clusters": "cluster", "users": "user", "contexts": "context"}
    for entry in entries_of(server, clusters):
        shown[entry.kind].append({"name": entry.name, inner[entry.kind]: {**entry.fields, **entry.initial}})
    return shown


def _cluster(server: Server, name: str) -> Entry:
    fields = _where(server, name)
    drop = ("insecure-skip-tls-verify",) + (() if server.authority else ("certificate-authority-data",))
    return Entry("clusters", name, fields, is_ours=_leads_here(server, name), drop=drop)


def _where(server: Server, cluster: str) -> dict[str, str]:
    data = server.authority_data()
    return {"server": server.address(cluster)} | ({"certificate-authority-data": data} if data else {})


def _exec(server: Server) -> dict[str, Any]:
    settings = [{"name": name, "value": value} for name, value in server.environment.items()]
    return {
        "apiVersion": EXEC_VERSION,
        "command": server.command,
        "args": [PLUGIN, "--server", server.url],
        "interactiveMode": "IfAvailable",
        "provideClusterInfo": True,
        "installHint": INSTALL_HINT,
        **({"env": settings} if settings else {}),
    }


def _is_our_user(held: Mapping[str, Any]) -> bool:
    plugin = held.get("exec")
    return not held or (isinstance(plugin, dict) and PLUGIN in (plugin.get("args") or ()))


def _names_cluster(name: str) -> Any:
    return lambda held: not held or held.get("cluster") == name


def _leads_here(server: Server, name: str) -> Any:
    def ours(held: Mapping[str, Any]) -> bool:
        where = urlsplit(str(held.get("server", "")))
        host, own = where.hostname or "", urlsplit(server.url).hostname or ""
        by_path = host == own and where.path.startswith(PREFIX)
        by_name = host in (f"{name}.k8s.{own}", f"{name}.{server.base_host}")
        return not held or by_path or by_name

    return ours
