"""What annotations of an Ingress ask for, where no controller does it: options of a route, notes, or a caution. Pure.

Deny by default: an annotation that sounds like protection and cannot be honoured keeps its ingress from going live by
itself. Source of names and defaults: the annotation pages of ingress-nginx; other controllers' are told as notes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

NGINX = "nginx.ingress.kubernetes.io/"
CONTROLLERS = (
    NGINX, "ingress.kubernetes.io/", "traefik.ingress.kubernetes.io/", "traefik.io/", "haproxy.org/", "nginx.org/",
    "nginx.com/", "haproxy-ingress.github.io/", "konghq.com/", "projectcontour.io/", "alb.ingress.kubernetes.io/",
    "k8s.apisix.apache.org/", "ingress.cilium.io/", "cloud.google.com/", "networking.gke.io/",
)  # fmt: skip
"""Beginnings of annotations that are meant for an ingress controller."""
MOST_NOTES = 20
"""Of one claim; whoever uses more annotations is told how many were left out."""

_PROTECTION = re.compile(
    r"auth|whitelist|allow-?list|denylist|blacklist|allow|deny|middleware|plugin|snippet|modsecurity|waf|jwt|oidc"
    r"|polic|scheme|inbound-cidrs|ip-|security|iap|armor|satisfy|internal|sslpassthrough|ssl-passthrough",
)
_HARMLESS = frozenset({"enable-access-log", "service-upstream", "pathtype", "preserve-trailing-slash"})
"""Without a meaning where no nginx runs; `rewrite-target: /` of an ingress for `/` changes nothing either."""
_SIZE = re.compile(r"(\d{1,9})([kmg]?)", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(slots=True)
class Asked:
    """What the annotations of one ingress come to."""

    options: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    caution: str = ""
    uses_tls: bool = False
    """The backend speaks TLS."""
    is_regex: bool = False
    """Paths are regular expressions."""


class _Unreadable(ValueError):
    pass


def _size(text: str) -> str:
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise _Unreadable
    return str(int(found[1]) * _UNITS[found[2].lower()])


def _seconds(text: str) -> str:
    bare = text.strip().removesuffix("s")
    if not bare.isdigit():
        raise _Unreadable
    return bare


def _flag(text: str) -> str:
    word = text.strip().lower()
    if word not in ("true", "false"):
        raise _Unreadable
    return word


def _number(text: str) -> str:
    if not text.strip().isdigit():
        raise _Unreadable
    return text.strip()


def _text(text: str) -> str:
    return text.strip()


_OPTIONS: dict[str, tuple[str, Callable[[str], str]]] = {
    "proxy-body-size": ("body_limit", _size),
    "proxy-read-timeout": ("request_timeout", _seconds),
    "whitelist-source-range": ("allow", _text),
    "allowlist-source-range": ("allow", _text),
    "denylist-source-range": ("deny", _text),
    "upstream-vhost": ("host", _text),
    "limit-rps": ("rate_limit", _number),
    "ssl-redirect": ("https_redirect", _flag),
    "force-ssl-redirect": ("https_redirect", _flag),
}
"""Annotations of ingress-nginx that are an option of a route."""
ADDRESSES = frozenset({"allow", "deny"})


def ask(annotations: Mapping[str, str]) -> Asked:
    """Read what an ingress asks of a controller that is not there."""
    asked = Asked()
    notes: list[str] = []
    for key, value in sorted(annotations.items()):
        if key.startswith(NGINX):
            _read_nginx(key.removeprefix(NGINX), value, asked, notes)
        elif key.startswith(CONTROLLERS):
            _leave(key, key.rpartition("/")[2], asked, notes)
    left = len(notes) - MOST_NOTES
    asked.notes = notes[:MOST_NOTES] + ([f"and {left} annotations more are not honoured"] if left > 0 else [])
    return asked


def addresses(annotations: Mapping[str, str]) -> dict[str, str]:
    """Return the lists of addresses that an ingress of nginx sets.

    Its controller sees the agent's address, which may well be in a list of internal ones: the gateway, which sees the
    client's, has to hold it against them.
    """
    asked = ask({key: value for key, value in annotations.items() if key.startswith(NGINX)})
    return {name: value for name, value in asked.options.items() if name in ADDRESSES}


def _read_nginx(name: str, value: str, asked: Asked, notes: list[str]) -> None:
    key = NGINX + name
    if name in _OPTIONS:
        option, read = _OPTIONS[name]
        try:
            asked.options[option] = read(value)
        except _Unreadable:
            _leave(key, name, asked, notes)
    elif name == "backend-protocol":
        _read_protocol(key, value, asked, notes)
    elif name == "use-regex":
        asked.is_regex = value.strip().lower() == "true"
    elif name not in _HARMLESS:
        _leave(key, name, asked, notes)


def _read_protocol(key: str, value: str, asked: Asked, notes: list[str]) -> None:
    word = value.strip().upper()
    asked.uses_tls = word in ("HTTPS", "GRPCS")
    if word not in ("HTTP", "HTTPS", "AUTO_HTTP"):
        notes.append(f"{key} is not honoured: {word[:20]} is not spoken to backends")


def _leave(key: str, name: str, asked: Asked, notes: list[str]) -> None:
    notes.append(f"{key[:200]} is not honoured: no controller that reads it serves this ingress")
    if _PROTECTION.search(name.lower()):
        asked.caution = f"{key[:200]} may protect it, and nothing here does what it says"
