"""One request to a cluster as it was understood, before anybody decides about it. Pure.

What is written down of it leaves out whatever may be a secret: bodies, fields, and every query parameter that is not
known to be harmless. The argument list of an exec is no secret, and is what an auditor asks for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from towline.control.kubernetes import addresses
from towline.gateway.interfaces import Peer
from towline.kube import rules
from towline.kube.access import AccessTuple, derive, first_value
from towline.kube.errors import BadRequest
from towline.kube.heads import Fields, upgrade_wanted
from towline.kube.paths import check_path
from towline.wire.http1 import RequestHead

SHOWN_PARAMETERS = frozenset(
    {
        *("labelSelector", "fieldSelector", "limit", "watch", "follow", "container", "previous", "tailLines"),
        *("sinceSeconds", "timestamps", "dryRun", "fieldManager", "force", "propagationPolicy", "gracePeriodSeconds"),
        *("resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds"),
        *("stdin", "stdout", "stderr", "tty", "ports"),
    }
)
"""Query parameters of the API server's own that hold no secret. Those of a proxied workload are never shown."""
LONGEST_WORD = 1000
MOST_WORDS = 100
"""Of an argument list: an audit event stays below 100 KiB."""
_CLIENT = {
    b"user-agent": "user_agent",
    b"kubectl-command": "kubectl_command",
    b"kubectl-session": "kubectl_session",
}
_TRUE = (b"true", b"1")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, the cluster that it names, and what it is in the words of RBAC."""

    head: RequestHead
    fields: Fields
    """Of the head, split once."""
    peer: Peer
    request_id: str
    address: addresses.Address
    access: AccessTuple
    is_upgrade: bool

    @property
    def is_long(self) -> bool:
        """True when it may run for hours: a watch, a followed log, a shell, a forward."""
        access = self.access
        if access.verb == "watch" or self.is_upgrade:
            return True
        if access.kind != "pods/log":
            return False
        return (first_value(self.address.query, b"follow") or b"").lower() in _TRUE

    @property
    def must_be_recorded(self) -> bool:
        """True when nothing may happen before it is on record: changes, shells, and what reveals secrets."""
        access = self.access
        if rules.is_for_everyone(access):
            return False
        return bool(rules.is_high_risk(access)) or access.verb not in (*rules.READS, "head")

    def detail(self) -> dict[str, Any]:
        """Return what the audit log keeps of it."""
        access = self.access
        named = {name: getattr(access, name) for name in ("group", "version", "namespace", "name")}
        shown: dict[str, Any] = {"verb": access.verb, "resource": access.kind, **named}
        shown |= {"path": access.path[:LONGEST_WORD], "upgrade": _text(self.head.upgrade or b"")}
        shown |= self._client()
        if not access.is_proxy:
            pairs = _pairs(self.address.query)
            shown["query"] = {key: value[:LONGEST_WORD] for key, value in pairs if key in SHOWN_PARAMETERS}
            if access.is_exec_family:
                argv = [value[:LONGEST_WORD] for key, value in pairs if key == "command"]
                shown["argv"] = argv[:MOST_WORDS]
        return {key: value for key, value in shown.items() if value}

    def _client(self) -> dict[str, str]:
        """Return what the client says about itself; `kubectl_session` is the same for all requests of one command."""
        return {_CLIENT[name]: _text(value)[:200] for name, _, value in self.fields if name in _CLIENT}


def understand(head: RequestHead, peer: Peer, request_id: str, address: addresses.Address) -> Asked:
    """Return a request as the API server will understand it. Raises: RequestRefused: the client gets 400."""
    access = derive(head.method, check_path(address.path), address.query)
    if head.upgrade is not None and not upgrade_wanted(access, head.method, head.upgrade):
        raise BadRequest("bad_upgrade", "this request cannot be upgraded; exec, attach, port-forward and proxy can")
    return Asked(head, head.fields, peer, request_id, address, access, head.upgrade is not None)


def _pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=None) if query else []


def _text(value: bytes) -> str:
    return value.decode("latin-1")
