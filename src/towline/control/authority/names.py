"""The names and addresses that this machine can be reached by, as far as it knows itself."""

import ipaddress
import re
import socket
from collections.abc import Iterable

LOOPBACK = ("localhost", "127.0.0.1", "::1")
FAR_AWAY = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
"""Documentation addresses: connecting a datagram socket sends nothing, and shows the source address of a route."""
_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")


def server_names(hostnames: Iterable[str]) -> list[str]:
    """Return every name for the certificate: those of the settings first, then the machine's, then loopback."""
    found = [name.strip().strip("[]").lower() for name in hostnames]
    found += [socket.gethostname().lower(), *_addresses(), *LOOPBACK]
    return list(dict.fromkeys(name for name in found if is_name(name)))


def is_name(text: str) -> bool:
    """Tell whether a text can stand in a certificate: an address, or a host name in ASCII."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return len(text) <= 253 and _NAME.fullmatch(text) is not None
    return True


def _addresses() -> list[str]:
    found = []
    for family, far in FAR_AWAY:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((far, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:
            continue  # no route of this family
    return [address for address in found if not ipaddress.ip_address(address).is_link_local]


def reachable_name(hostnames: Iterable[str], listen_host: str) -> str:
    """Return the name to show in commands: the first one set, else the address of the outgoing route."""
    for name in hostnames:
        return name
    if listen_host not in ("0.0.0.0", "::", ""):  # noqa: S104 - compared, not bound
        return listen_host
    return next(iter(_addresses()), "localhost")
