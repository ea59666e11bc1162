"""Sets the records of DNS-01: by RFC 2136 with TSIG, by a webhook, or by a plugin.

A plugin is an entry point of the group `towline.dns_providers`: it is called with the options of `acme_dns` and returns
an object with `present` and `remove` (see `ordering.Solver`). Several values may stand at one name at once, as for a
domain and its wildcard: nothing here replaces a whole record set.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

import dns.asyncquery
import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import httpx

from towline.control.certificates.errors import Blocked
from towline.control.certificates.ordering import Solver
from towline.control.domains.names import parents
from towline.control.domains.resolver import NameUnknown, Resolver, ResolverAway
from towline.control.errors import StartupError
from towline.control.logging import get_logger

_log = get_logger("certificates")

GROUP = "towline.dns_providers"
LABEL = "_acme-challenge"
RECORD_TTL = 60
"""Seconds: the record is gone within minutes, and nobody should keep it for longer."""
SEEN_DEADLINE = 60.0
"""Seconds until every name server of the zone has a record; secondaries are told within one or two."""
SEEN_INTERVAL = 1.0
SERVER_TIMEOUT = 5.0
"""Seconds that one name server gets for an update or a question."""
DEFAULT_PORT = 53
WEBHOOK_TIMEOUT = 30.0
"""Seconds: behind it stands another provider's API."""
_KEY = re.compile(
    r'key\s+"?(?P<name>[^"\s{]+)"?\s*\{\s*algorithm\s+"?(?P<algorithm>[\w-]+)"?\s*;\s*secret\s+"?(?P<secret>[^"\s;]+)',
    re.IGNORECASE,
)


def solver_from(options: Mapping[str, str], resolvers: Sequence[str] = ()) -> Solver | None:
    """Return what the settings name; None for nothing. Raises: StartupError: it is wrong or not installed."""
    provider = options.get("provider", "")
    rest = {name: value for name, value in options.items() if name != "provider"}
    if not options:
        return None
    if not provider:
        raise StartupError("acme_dns: name a provider: rfc2136, webhook, or a plugin's")
    if provider == "rfc2136":
        return Rfc2136(_only(rest, "server", "key_file", "zone"), resolvers)
    if provider == "webhook":
        return Webhook(_only(rest, "url", "token_file"))
    return _plugin(provider, rest)


def _only(options: dict[str, str], *known: str) -> dict[str, str]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise StartupError(f"acme_dns: {', '.join(unknown)} is none of {', '.join(known)}")
    return options


def _plugin(name: str, options: dict[str, str]) -> Solver:
    for found in entry_points(group=GROUP, name=name):
        try:
            solver: Solver = found.load()(options)
        except Exception as error:
            raise StartupError(f"acme_dns: the plugin {name} does not start: {error}") from error
        return solver
    raise StartupError(f"acme_dns: there is no provider {name}; a plugin offers it in the group {GROUP}")


class Rfc2136:
    """Updates a zone on its primary server, signed by a TSIG key. Source: RFC 2136, RFC 8945."""

    def __init__(self, options: Mapping[str, str], resolvers: Sequence[str]) -> None:
        if not options.get("server") or not options.get("key_file"):
            raise StartupError("acme_dns: rfc2136 needs server and key_file")
        self._server = split_address(options["server"], DEFAULT_PORT)
        self._zone = options.get("zone", "").strip(".")
        self._resolver = Resolver(resolvers)
        self._keyring, self._key_name, self._algorithm = _read_key(Path(options["key_file"]))

    def __repr__(self) -> str:
        return f"<Rfc2136 {self._server[0]}:{self._server[1]}>"

    async def present(self, name: str, value: str) -> None:
        record, zone = f"{LABEL}.{name}.", await self._zone_of(name)
        update = self._update(zone)
        update.add(dns.name.from_text(record), RECORD_TTL, "TXT", f'"{value}"')
        await self._send(update, name)
        await self._wait_until_seen(record, value, zone)

    async def remove(self, name: str, value: str) -> None:
        try:
            update = self._update(await self._zone_of(name))
            update.delete(dns.name.from_text(f"{LABEL}.{name}."), "TXT", f'"{value}"')
            await self._send(update, name)
        except Blocked as error:
            _log.warning("a DNS record was not taken away", name=name, why=str(error))

    def _update(self, zone: dns.name.Name) -> dns.update.UpdateMessage:
        return dns.update.UpdateMessage(
            zone, keyring=self._keyring, keyname=self._key_name, keyalgorithm=self._algorithm
        )

    async def _send(self, update: dns.update.UpdateMessage, name: str) -> None:
        host, port = self._server
        where = f"the name server {host}:{port}"
        try:
            answer = await dns.asyncquery.tcp(update, host, timeout=SERVER_TIMEOUT, port=port)
        except dns.tsig.PeerError as error:
            raise Blocked(f"{where} does not take our TSIG key: {error}") from error
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise Blocked(f"{where} does not take updates: {error or type(error).__name__}") from error
        if answer.rcode() != dns.rcode.NOERROR:
            raise Blocked(f"{where} refused the record for {name}: {dns.rcode.to_text(answer.rcode())}")

    async def _zone_of(self, name: str) -> dns.name.Name:
        if self._zone:
            return dns.name.from_text(self._zone)
        for parent in parents(name):
            try:
                await self._resolver.records(parent, "SOA")
            except NameUnknown:
                continue
            except ResolverAway as error:
                raise Blocked(f"the zone of {name} cannot be found: {error}; name it in acme_dns") from error
            return dns.name.from_text(parent)
        raise Blocked(f"the zone of {name} cannot be found in DNS; name it in acme_dns")

    async def _wait_until_seen(self, record: str, value: str, zone: dns.name.Name) -> None:
        """Wait until the primary and every server that the zone names show the record."""
        servers = {self._server, *await self._name_servers(zone)}
        try:
            async with asyncio.timeout(SEEN_DEADLINE):
                while missing := [each for each in servers if not await _shows(each, record, value)]:
                    servers = set(missing)
                    await asyncio.sleep(SEEN_INTERVAL)
        except TimeoutError as error:
            late = ", ".join(sorted(host for host, _ in servers))
            raise Blocked(f"{late} still does not show {record} after {SEEN_DEADLINE:.0f} seconds") from error

    async def _name_servers(self, zone: dns.name.Name) -> list[tuple[str, int]]:
        """Return the addresses of the zone's servers; those that cannot be found are not waited for."""
        try:
            names = [str(record.target) for record in await self._resolver.records(str(zone).rstrip("."), "NS")]
            found = [await self._resolver.addresses(name.rstrip(".")) for name in names]
        except (NameUnknown, ResolverAway):
            return []
        return [(address, DEFAULT_PORT) for addresses in found for address in addresses]


def split_address(text: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and (":" not in host or host.startswith("[")):
        return host.strip("[]"), int(port)
    return text.strip("[]"), default_port


async def _shows(server: tuple[str, int], record: str, value: str) -> bool:
    query = dns.message.make_query(record, dns.rdatatype.TXT)
    try:
        answer = await dns.asyncquery.tcp(query, server[0], timeout=SERVER_TIMEOUT, port=server[1])
    except (dns.exception.DNSException, OSError, EOFError):
        return False
    texts = [b"".join(each.strings) for found in answer.answer if found.rdtype == dns.rdatatype.TXT for each in found]
    return value.encode() in texts


def _read_key(path: Path) -> tuple[dict[dns.name.Name, dns.tsig.Key], dns.name.Name, dns.name.Name]:
    """Read a key as `tsig-keygen` writes it. Raises: StartupError."""
    try:
        found = _KEY.search(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"acme_dns: the key file {path} cannot be read") from error
    if found is None:
        raise StartupError(f"acme_dns: {path} holds no TSIG key as tsig-keygen writes it")
    name, algorithm = dns.name.from_text(found["name"]), dns.name.from_text(found["algorithm"].lower())
    try:
        return {name: dns.tsig.Key(name, found["secret"], algorithm)}, name, algorithm
    except (ValueError, dns.exception.DNSException) as error:
        raise StartupError(f"acme_dns: the key in {path} is damaged") from error


class Webhook:
    """Asks an address of the operator's: `POST {"action", "record", "value"}`, answered once the record is seen."""

    def __init__(self, options: Mapping[str, str]) -> None:
        self._url = options.get("url", "")
        if urlsplit(self._url).scheme not in ("https", "http") or not urlsplit(self._url).hostname:
            raise StartupError("acme_dns: webhook needs a url")
        self._token_file = Path(options["token_file"]) if options.get("token_file") else None

    def __repr__(self) -> str:
        return f"<Webhook {urlsplit(self._url).hostname}>"

    async def present(self, name: str, value: str) -> None:
        await self._ask("present", name, value)

    async def remove(self, name: str, value: str) -> None:
        try:
            await self._ask("remove", name, value)
        except Blocked as error:
            _log.warning("a DNS record was not taken away", name=name, why=str(error))

    async def _ask(self, action: str, name: str, value: str) -> None:
        body = {"action": action, "record": f"{LABEL}.{name}", "value": value}
        try:
            headers = await asyncio.to_thread(self._headers)
            async with httpx.AsyncClient(timeout=WEBHOOK_TIMEOUT) as client:
                answer = await client.post(self._url, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Blocked("the webhook of acme_dns cannot be reached") from error
        if not answer.is_success:
            raise Blocked(f"the webhook of acme_dns answered {answer.status_code} when asked to {action} a record")

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except (OSError, UnicodeDecodeError) as error:
            raise Blocked("the token_file of acme_dns cannot be read") from error
