"""Published ports: splitting the short syntax, and the grammar of numbers, ranges, addresses and protocols.

Not here: which ports a policy allows.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Each published port is a proxy or a rule on the host; a range of thousands stalls the engine for minutes.
MAX_RANGE = 1_000
HIGHEST = 65535

_NUMBER = re.compile(r"[0-9]{1,5}", re.ASCII)
_PROTOCOLS = frozenset({"tcp", "udp", "sctp"})
_KEYS = frozenset({"mode", "host_ip", "target", "published", "protocol", "app_protocol", "name"})


@dataclass(frozen=True, slots=True)
class Published:
    """One entry of `ports` after checking. `first`..`last` are the host's ports; both 0 when Docker chooses."""

    address: str
    first: int
    last: int
    target: int
    protocol: str

    @property
    def is_chosen_by_docker(self) -> bool:
        return self.first == 0


class PortMistake(ValueError):
    """A port entry is outside the grammar."""


def split_short(text: str) -> dict[str, Any]:
    """Split `[[ADDRESS:]PUBLISHED:]TARGET[/PROTOCOL]` without judging the pieces."""
    rest, slash, protocol = text.partition("/")
    rest, colon, target = rest.rpartition(":")
    address, _, published = rest.rpartition(":") if colon else ("", "", "")
    found = {"target": target, "protocol": protocol if slash else "tcp"}
    if published:
        found["published"] = published
    if address:
        found["host_ip"] = address.removeprefix("[").removesuffix("]")
    return found


def check(entry: Mapping[str, Any]) -> Published:
    """Check one entry in the long form. Raises: PortMistake, which says what is wrong."""
    for key in entry:
        if key not in _KEYS and not key.startswith("x-"):
            raise PortMistake(f"unknown key {key!r}")
    protocol = str(entry.get("protocol") or "tcp").lower()
    if protocol not in _PROTOCOLS:
        raise PortMistake("the protocol must be tcp, udp or sctp")
    target = _range(str(entry.get("target") or ""), "container port")
    published = str(entry.get("published") or "")
    first, last = _range(published, "published port") if published else (0, 0)
    target_size, size = target[1] - target[0], last - first
    if published and target_size and size != target_size:
        raise PortMistake("both ranges must have the same length")
    return Published(_address(str(entry.get("host_ip") or "")), first, last, target[0], protocol)


def _range(text: str, what: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    low = _number(first, what)
    high = _number(last, what) if dash else low
    if high < low:
        raise PortMistake(f"the {what} range ends before it begins")
    if high - low >= MAX_RANGE:
        raise PortMistake(f"the {what} range is longer than {MAX_RANGE}")
    return low, high


def _number(text: str, what: str) -> int:
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= HIGHEST:
        raise PortMistake(f"the {what} must be a number from 1 to {HIGHEST}")
    return int(text)


def _address(text: str) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise PortMistake("the host address must be an IP address") from None
