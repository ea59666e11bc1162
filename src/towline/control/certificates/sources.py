"""What the settings say about certificates: whom to ask, by which challenges, and for which names of the server itself.

Pure but for reading the settings.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from towline.control.certificates.budget import Limits
from towline.control.certificates.checks import Looks
from towline.control.certificates.dns_solver import solver_from
from towline.control.certificates.ordering import Solver
from towline.control.certificates.states import ChallengeKind, Source
from towline.control.certificates.wanted import WantedName
from towline.control.errors import StartupError
from towline.control.settings import Settings


def source_of(settings: Settings) -> Source | None:
    """Return where certificates of published names come from; None: only from uploads."""
    if settings.acme_directory:
        return Source.ACME
    return Source.LOCAL if settings.tls_certificate_file is None else None


async def own_names(settings: Settings) -> list[WantedName]:
    """Return the server's own names, when the settings say that an authority certifies them."""
    names = certified_hosts(settings)
    if names and settings.kubernetes_host and solver_of(settings) is not None:
        names.append(f"*.{settings.kubernetes_host}")
    return [WantedName(name) for name in names]


def certified_hosts(settings: Settings) -> list[str]:
    """Return the server's own host names that the authority certifies: those that agents dial by another name are not.

    Agents pin our own authority; `agent_urls` is what they dial, and it keeps showing what they pinned.
    """
    if not (settings.acme_directory and settings.acme_server_names):
        return []
    kept = agent_hosts(settings)
    return list(dict.fromkeys(name for name in settings.own_hosts() if is_public_name(name) and name not in kept))


def agent_hosts(settings: Settings) -> frozenset[str]:
    """Return the host names of the addresses that agents alone dial."""
    return frozenset(name for url in settings.agent_urls if (name := (urlsplit(url).hostname or "").lower()))


def looks_of(settings: Settings) -> Looks:
    """Return what to look at before asking, and which challenges the settings rule out."""
    kinds, cannot = [], []
    for text in settings.acme_challenges:
        kind = ChallengeKind(text)
        problem = _cannot(kind, settings)
        if problem:
            cannot.append((kind, problem))
        else:
            kinds.append(kind)
    hosts = [name for name in (*settings.own_hosts(), settings.gateway_domain) if is_public_name(name)]
    return Looks(
        tuple(kinds), settings.acme_http_port, settings.acme_tls_port, tuple(dict.fromkeys(hosts)), tuple(cannot)
    )


def limits_of(settings: Settings) -> Limits:
    """Return how often the authority may be asked."""
    return Limits(settings.acme_orders_per_account, settings.acme_orders_per_domain)


def solver_of(settings: Settings) -> Solver | None:
    """Return what sets records for DNS-01; None when nothing does. Raises: StartupError: the settings are wrong."""
    if ChallengeKind.DNS not in settings.acme_challenges:
        return None
    return solver_from(settings.acme_dns, settings.dns_resolvers)


def check_settings(settings: Settings) -> None:
    """Raises: StartupError: something that could never work, in one line."""
    unknown = [text for text in settings.acme_challenges if text not in set(ChallengeKind)]
    if unknown:
        raise StartupError(f"acme_challenges: {', '.join(unknown)} is none of {', '.join(ChallengeKind)}")
    url = urlsplit(settings.acme_directory)
    if settings.acme_directory and (url.scheme != "https" or not url.hostname):
        raise StartupError("acme_directory: must begin with https://")
    if bool(settings.acme_eab_key_id) != bool(settings.acme_eab_hmac_file):
        raise StartupError("acme_eab_key_id and acme_eab_hmac_file belong together: name both or neither")
    if settings.acme_directory:
        solver_of(settings)


def _cannot(kind: ChallengeKind, settings: Settings) -> str:
    if kind is ChallengeKind.HTTP and not settings.gateway_listen_http and not settings.trusted_proxies:
        return "nothing listens for plain HTTP: set gateway_listen_http, and let port 80 lead there"
    if kind is ChallengeKind.TLS_ALPN and settings.trusted_proxies:
        return "a proxy in front ends TLS (trusted_proxies)"
    if kind is ChallengeKind.DNS and solver_of(settings) is None:
        return "nothing may set records: see acme_dns"
    return ""


def is_public_name(name: str) -> bool:
    """Tell whether an authority may certify a name: a host name with a dot, no address."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return "." in name and not name.endswith((".local", ".internal", ".localhost"))
    return False
