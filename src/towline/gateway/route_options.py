"""What one published route does besides passing requests on: a frozen object, and how it is read from JSON or labels.

Every value is checked here once, so that nothing behind this module meets a network, a header or a limit that is none.
What the options do is in `published`; which route has which is the router's business.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

MAX_TIMEOUT = 24 * 3600.0  # seconds; a day of silence is a dead peer
MAX_BODY_BYTES = 1 << 50  # a petabyte: larger numbers are a slip of the pen
MAX_RATE = 100_000.0  # requests a second of one client; more than one server answers
MAX_NETWORKS = 1_000  # each request walks them
MAX_USERS = 100  # each is a hash that was made by hand; more want real accounts
MAX_HASH_KIB = 256 * 1024  # of memory for one password; agents and labels name hashes, and the edge verifies them
MAX_HASH_WORK_KIB = 1024 * 1024  # memory times passes: about a second of a core
MAX_HASH_LANES = 16  # threads of one verification
MAX_HEADERS = 50
MAX_HEADER_BYTES = 4_096  # of one value: half of the head that common servers take
MAX_PAGE_BYTES = 64 * 1024
MIN_HEALTH_INTERVAL = 1.0
DEFAULT_REQUEST_TIMEOUT = 60.0
"""Seconds until an answer begins, as users of nginx expect (`proxy_read_timeout`)."""
DEFAULT_HEALTH_INTERVAL = 10.0
BALANCES = ("round_robin", "least_connections")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.\-]*[A-Za-z0-9])?(?::[0-9]{1,5})?")
_PATH = re.compile(r"/[\x21-\x7e]*")
_USER = re.compile(r"[^\x00-\x1f\x7f:]{1,128}")
_HASH = re.compile(
    r"\$argon2id?\$(?:v=\d{1,3}\$)?m=(\d{1,7}),t=(\d{1,4}),p=(\d{1,3})\$[A-Za-z0-9+/.\-]{8,90}\$[A-Za-z0-9+/.\-]{16,90}"
)
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_RESERVED_PREFIXES = ("x-towline-", "impersonate-", "x-remote-")
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class OptionError(ValueError):
    """An option that is none; `key` names it, the message says what it must be."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """What a route does; every default is what a service behind nginx would meet. Times in seconds, sizes in bytes."""

    request_timeout: float = DEFAULT_REQUEST_TIMEOUT
    """From the end of the request to the beginning of its answer; 0: for ever."""
    idle_timeout: float = 0.0
    """Without a byte either way once the answer has begun, or after an upgrade; 0: for ever."""
    body_limit: int = 0
    """Of a request body; 0: none."""
    rate_limit: float = 0.0
    """Requests a second of one client address (IPv6: /64); 0: none."""
    rate_burst: int = 0
    """Requests that may come at once on top; 0: as many as a second brings, at least one."""
    allow: tuple[str, ...] = ()
    """Networks that may come; empty: all that `deny` does not name."""
    deny: tuple[str, ...] = ()
    """Networks that may not come, whatever `allow` says."""
    basic_auth: tuple[str, ...] = field(default=(), repr=False)
    """`NAME:HASH`, the hash as argon2 writes it; empty: no password."""
    sign_in: bool = False
    """Only the platform's users whose role covers the cluster."""
    set_request_headers: tuple[tuple[str, str], ...] = ()
    remove_request_headers: tuple[str, ...] = ()
    set_answer_headers: tuple[tuple[str, str], ...] = ()
    remove_answer_headers: tuple[str, ...] = ()
    host: str = ""
    """What the target sees as Host; empty: what the client asked for."""
    https_redirect: bool = True
    hsts: int = 0
    """Seconds of Strict-Transport-Security; 0: none."""
    compression: bool = False
    maintenance: bool = False
    """Answer 503 with a page, and ask nobody."""
    error_page: str = field(default="", repr=False)
    """HTML for the errors that the gateway itself answers with; `{status}`, `{code}` and `{message}` are filled in."""
    sample: float | None = None
    """Share of the good requests that the access log holds; None: what the server's setting says."""
    balance: str = "round_robin"
    health_path: str = ""
    """Asked by GET on each of several targets; empty: targets are judged by the requests alone."""
    health_interval: float = DEFAULT_HEALTH_INTERVAL
    tls_passthrough: bool = False
    """Hand TLS connections for this name to the target as they are; the gateway reads nothing but the name."""
    tcp_port: int = 0
    """Pass connections to this port of the gateway through to the target; 0: none."""

    @property
    def is_raw(self) -> bool:
        """True for a route that serves no HTTP here."""
        return self.tls_passthrough or bool(self.tcp_port)


DEFAULTS = RouteOptions()


def parse_options(values: Mapping[str, object]) -> RouteOptions:
    """Return the options that a JSON object, or labels with texts as values, describe.

    Lists may be texts with commas; headers a mapping, or texts `NAME: VALUE` by line; booleans words.
    Raises: OptionError: an unknown key, or a value that is none.
    """
    if not values:
        return DEFAULTS  # one object for the thousands of routes that ask for nothing
    found: dict[str, Any] = {}
    for key, value in values.items():
        reader = _READERS.get(key)
        if reader is None:
            raise OptionError(key, "there is no such option")
        found[key] = reader(key, value)
    options = RouteOptions(**found)
    if options.sign_in and options.basic_auth:
        raise OptionError("sign_in", "cannot stand beside basic_auth: a visitor is asked in one way")
    if options.tls_passthrough and options.tcp_port:
        raise OptionError("tcp_port", "cannot stand beside tls_passthrough")
    return options


def check_place(options: RouteOptions, path: str, path_type: str) -> None:
    """Refuse options that cannot work where their route answers. Raises: OptionError."""
    if options.tls_passthrough and path != "/":
        raise OptionError("tls_passthrough", "needs the path `/`: a TLS connection is passed through whole")
    if options.sign_in and path_type == "exact":
        raise OptionError("sign_in", "needs a route of kind prefix: visitors come back to a path below it")


def options_as_json(options: RouteOptions) -> dict[str, Any]:
    """Return the options that differ from their defaults, as `parse_options` reads them."""
    found = {}
    for each in fields(options):
        value = getattr(options, each.name)
        if each.default is not MISSING and value == each.default:
            continue
        if each.name.startswith("set_"):
            value = dict(value)
        found[each.name] = list(value) if isinstance(value, tuple) else value
    return found


def all_as_json(options: RouteOptions) -> dict[str, Any]:
    """Return every option, defaults included."""
    found = asdict(options)
    for key, value in found.items():
        if key.startswith("set_"):
            found[key] = dict(value)
        elif isinstance(value, tuple):
            found[key] = list(value)
    return found


# -- readers ---------------------------------------------------------------------------------


def _number(low: float, high: float) -> Callable[[str, object], float]:
    def read(key: str, value: object) -> float:
        if isinstance(value, str):
            value = _as_number(key, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OptionError(key, "must be a number")
        if value != 0 and not low <= value <= high:
            raise OptionError(key, f"must be 0, or between {low:g} and {high:g}")
        return float(value)

    return read


def _as_number(key: str, text: str) -> float:
    try:
        return float(text.strip().removesuffix("s"))
    except ValueError:
        raise OptionError(key, "must be a number") from None


def _whole(high: int) -> Callable[[str, object], int]:
    number = _number(1, high)

    def read(key: str, value: object) -> int:
        found = number(key, value)
        if found != int(found):
            raise OptionError(key, "must be a whole number")
        return int(found)

    return read


def _flag(key: str, value: object) -> bool:
    if isinstance(value, str):
        value = _WORDS.get(value.strip().lower())
    if not isinstance(value, bool):
        raise OptionError(key, "must be true or false")
    return value


def _texts(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[,\n]", value) if part.strip()]
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise OptionError(key, "must be a list of texts")
    return tuple(each.strip() for each in value)


def _networks(key: str, value: object) -> tuple[str, ...]:
    found = _texts(key, value)
    if len(found) > MAX_NETWORKS:
        raise OptionError(key, f"holds more than {MAX_NETWORKS} networks")
    try:
        return tuple(str(ipaddress.ip_network(each, strict=False)) for each in found)
    except ValueError as error:
        raise OptionError(key, f"must hold networks such as 10.0.0.0/8: {error}") from None


def _users(key: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = value.split("\n")
    found = [each for each in _texts(key, value) if each]
    if len(found) > MAX_USERS:
        raise OptionError(key, f"holds more than {MAX_USERS} names")
    for each in found:
        name, _, secret = each.partition(":")
        if _USER.fullmatch(name) is None or not _is_hash(secret):
            raise OptionError(key, "must hold NAME:HASH, with a hash that argon2 made")  # never the value
    return tuple(found)


def _is_hash(text: str) -> bool:
    """Tell whether it is a hash that can be verified at a sensible cost: whoever names it chooses what that takes."""
    found = _HASH.fullmatch(text)
    if found is None:
        return False
    memory, passes, lanes = (int(number) for number in found.groups())
    sensible = 0 < memory <= MAX_HASH_KIB and passes > 0 and memory * passes <= MAX_HASH_WORK_KIB
    return sensible and 0 < lanes <= MAX_HASH_LANES


def _headers(key: str, value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):
        lines = [line.partition(":") for line in value.splitlines() if line.strip()]
        if any(not colon for _, colon, _ in lines):
            raise OptionError(key, "must hold lines like `NAME: VALUE`")
        value = {name.strip(): rest.strip() for name, _, rest in lines}
    if isinstance(value, list | tuple):
        with suppress(TypeError, ValueError):  # then it is still a list, and refused
            value = dict(value)
    if not isinstance(value, Mapping) or len(value) > MAX_HEADERS:
        raise OptionError(key, f"must be at most {MAX_HEADERS} headers")
    return tuple((_header_name(key, name), _header_value(key, text)) for name, text in value.items())


def _header_names(key: str, value: object) -> tuple[str, ...]:
    found = _texts(key, value)
    if len(found) > MAX_HEADERS:
        raise OptionError(key, f"must be at most {MAX_HEADERS} headers")
    return tuple(_header_name(key, name) for name in found)


def _header_name(key: str, name: object) -> str:
    if not isinstance(name, str) or _TOKEN.fullmatch(name) is None or len(name) > 128:
        raise OptionError(key, "must name headers by letters, digits and dashes")
    if name.lower() in _RESERVED_HEADERS or name.lower().startswith(_RESERVED_PREFIXES):
        raise OptionError(key, f"{name} belongs to the gateway" + (", see `host`" if name.lower() == "host" else ""))
    return name


def _header_value(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_HEADER_BYTES or _VALUE.fullmatch(value) is None:
        raise OptionError(key, "must hold values without line ends, in Latin-1")
    return value


def _host(key: str, value: object) -> str:
    if not isinstance(value, str) or (value and (len(value) > 253 or _HOST.fullmatch(value) is None)):
        raise OptionError(key, "must be a host name, perhaps with a port")
    return value


def _health_path(key: str, value: object) -> str:
    if not isinstance(value, str) or (value and (len(value) > 1024 or _PATH.fullmatch(value) is None)):
        raise OptionError(key, "must be a path that begins with a slash")
    return value


def _page(key: str, value: object) -> str:
    if not isinstance(value, str) or len(value.encode("utf-8", "surrogatepass")) > MAX_PAGE_BYTES:
        raise OptionError(key, f"must be HTML of at most {MAX_PAGE_BYTES // 1024} KiB")
    return value


def _balance(key: str, value: object) -> str:
    if value not in BALANCES:
        raise OptionError(key, f"must be one of {', '.join(BALANCES)}")
    return str(value)


def _sample(key: str, value: object) -> float | None:
    return None if value is None else _number(1e-6, 1)(key, value)


_timeout = _number(0.1, MAX_TIMEOUT)

_READERS: dict[str, Callable[[str, object], Any]] = {
    "request_timeout": _timeout,
    "idle_timeout": _timeout,
    "body_limit": _whole(MAX_BODY_BYTES),
    "rate_limit": _number(0.001, MAX_RATE),
    "rate_burst": _whole(int(MAX_RATE)),
    "allow": _networks,
    "deny": _networks,
    "basic_auth": _users,
    "sign_in": _flag,
    "set_request_headers": _headers,
    "remove_request_headers": _header_names,
    "set_answer_headers": _headers,
    "remove_answer_headers": _header_names,
    "host": _host,
    "https_redirect": _flag,
    "hsts": _whole(10 * 365 * 24 * 3600),
    "compression": _flag,
    "maintenance": _flag,
    "error_page": _page,
    "sample": _sample,
    "balance": _balance,
    "health_path": _health_path,
    "health_interval": _number(MIN_HEALTH_INTERVAL, MAX_TIMEOUT),
    "tls_passthrough": _flag,
    "tcp_port": _whole(65_535),
}
