"""Why a link is down: every hop to every server, then this host itself. Data only; the command line prints it.

It goes as far as the server's challenge and then hangs up: signing it would push the running agent aside.
"""

from __future__ import annotations

import os
import time

import msgspec

from towline.agent import policy, status
from towline.agent.docker import compose
from towline.agent.docker.engine import Engine, find_host
from towline.agent.errors import AgentError, KubernetesAbsent, KubernetesError, SettingsError
from towline.agent.host.capabilities import Capabilities
from towline.agent.identity import Identity, Store
from towline.agent.kubernetes import probe
from towline.agent.kubernetes.credentials import Credentials, find_source
from towline.agent.settings import AgentSettings
from towline.aio.streams import StreamError
from towline.aio.tasks import TaskOwner
from towline.tunnel import dial
from towline.tunnel.errors import LinkDown, TlsFailed, UpgradeRefused
from towline.tunnel.trust import TrustAnchors
from towline.wire import link

CHALLENGE_TIMEOUT = 10.0
"""Seconds for the server's first words after the upgrade."""

CLOCK_TOLERANCE = 60.0
"""Seconds that a clock may be off before it is worth a word; certificates and logs begin to mislead."""

_ORDER = ("dns", "tcp", "proxy", "tls", "upgrade", "protocol")


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str
    hint: str = ""
    server: str = ""
    """Empty for checks of this host."""
    chain: tuple[str, ...] = ()
    """The certificates that the server offered, its own first."""


async def examine(
    settings: AgentSettings, *, servers: tuple[str, ...] = (), anchors: TrustAnchors | None = None
) -> list[Check]:
    """Look at everything.

    Args: servers: addresses to try instead of those that the identity names. anchors: whom to believe there.
    """
    checks, identity = _check_identity(settings)
    checks += _check_policy(settings)
    urls = servers or (identity.server_urls if identity is not None else ())
    route = _route(settings, identity, anchors)
    for url in urls:
        checks += await _check_server(url, route)
    checks += await _check_docker(settings)
    if identity is not None:
        checks += _check_running(settings)
    return checks


def is_well(checks: list[Check]) -> bool:
    """Tell whether the link can work: this host's own checks, and one server that answers."""
    reached = {each.server for each in checks if each.server} - {each.server for each in checks if not each.ok}
    own = all(each.ok for each in checks if not each.server and each.name in ("identity", "policy", "clock"))
    return own and bool(reached)


def _check_identity(settings: AgentSettings) -> tuple[list[Check], Identity | None]:
    try:
        identity = Store(settings.state_folder).current
    except AgentError as error:
        return [Check(name="identity", ok=False, text=str(error))], None
    text = f"agent {identity.agent_id} of {identity.cluster_name}, key {identity.key.key_id}"
    return [Check(name="identity", ok=True, text=text)], identity


def _check_policy(settings: AgentSettings) -> list[Check]:
    try:
        policy.load(settings)
    except SettingsError as error:
        return [Check(name="policy", ok=False, text=str(error), hint="while it is wrong, nothing is allowed here")]
    return [Check(name="policy", ok=True, text=str(policy.find(settings) or "built-in defaults"))]


def _route(settings: AgentSettings, identity: Identity | None, anchors: TrustAnchors | None) -> dial.Route:
    if anchors is None:
        trust = identity.trust if identity is not None else link.Trust(fingerprints=())
        anchors = TrustAnchors(
            fingerprints=trust.fingerprints, ca_pem=trust.ca_pem, ca_file=str(settings.ca_file or "")
        )
    return dial.Route(anchors=anchors, proxy=settings.proxy, environment=dict(os.environ))


async def _check_server(url: str, route: dial.Route) -> list[Check]:
    try:
        endpoint = dial.Endpoint.parse(url)
    except ValueError as error:
        return [Check(name="address", ok=False, text=str(error), server=url)]
    steps = dial.Steps()
    async with TaskOwner("doctor") as owner:
        try:
            session = await dial.dial(endpoint, route, owner=owner, steps=steps)
        except LinkDown as error:
            return [*_passed(steps, endpoint, error.hop), _failed(error, steps, url)]
        try:
            challenge = await session.receive(CHALLENGE_TIMEOUT)
        except (TimeoutError, StreamError) as error:
            text = f"the server upgraded the connection, and then said nothing: {error}"
            return [*_passed(steps, endpoint, "protocol"), Check(name="protocol", ok=False, text=text, server=url)]
        finally:
            session.close()
    return [*_passed(steps, endpoint, ""), *_check_challenge(challenge, url)]


def _passed(steps: dial.Steps, endpoint: dial.Endpoint, failed: str) -> list[Check]:
    """Return the hops before the one that failed."""
    url = str(endpoint)
    found = {
        "dns": f"{endpoint.host} is {', '.join(steps.addresses)}",
        "tcp": f"connected to {steps.connected_to}",
        "proxy": f"passed the proxy {steps.proxy}" if steps.proxy else "",
        "tls": (steps.tls or "the certificate is accepted") if endpoint.is_secure else "",
        "upgrade": "the WebSocket was accepted" if steps.upgraded else "",
    }
    before = _ORDER[: _ORDER.index(failed)] if failed in _ORDER else _ORDER
    chain = tuple(steps.chain)
    return [
        Check(name=name, ok=True, text=found[name], server=url, chain=chain if name == "tls" else ())
        for name in before
        if found.get(name) and (name != "dns" or steps.addresses) and (name != "tcp" or steps.connected_to)
    ]


def _failed(error: LinkDown, steps: dial.Steps, url: str) -> Check:
    chain = error.chain if isinstance(error, TlsFailed) and error.chain else tuple(steps.chain)
    text = error.message
    if isinstance(error, UpgradeRefused) and error.body:
        text = f"{text}\n{error.body}"
    return Check(name=error.hop, ok=False, text=text, hint=error.hint, server=url, chain=chain)


def _check_challenge(message: link.Message, url: str) -> list[Check]:
    if not isinstance(message, link.Challenge):
        text = f"the server began with {type(message).__name__.lower()}"
        if isinstance(message, link.Error | link.Goodbye):
            text = message.message if isinstance(message, link.Error) else message.text or message.reason
        return [Check(name="protocol", ok=False, text=text, server=url)]
    offset = time.time() - message.server_time
    speaks = Check(name="protocol", ok=True, text=f"it speaks {link.PROTOCOL} as {message.origin}", server=url)
    return [speaks, _check_clock(offset)]


def _check_clock(offset: float) -> Check:
    if abs(offset) <= CLOCK_TOLERANCE:
        return Check(name="clock", ok=True, text=f"within {abs(offset):.0f} s of the server's")
    way = "ahead of" if offset > 0 else "behind"
    return Check(
        name="clock", ok=False, text=f"{abs(offset):.0f} s {way} the server's", hint="set the clock, and run NTP"
    )


async def _check_docker(settings: AgentSettings) -> list[Check]:
    engine = Engine(find_host(settings.docker_host))
    kubernetes = Credentials(find_source(settings))
    capabilities = Capabilities(
        engine,
        lambda: compose.find(engine.host, settings.compose_command),
        lambda: policy.load_or_deny(settings),
        find_kubernetes=lambda: probe.find_version(kubernetes),
    )
    await capabilities.look()
    absent = _has_no_kubernetes(kubernetes)
    checks = []
    for each in capabilities.current:
        ok = each.ready or (each.name == "kubernetes" and absent)  # most hosts have none, and nothing is wrong there
        checks.append(Check(name=each.name, ok=ok, text=each.reason or _versions_of(each, capabilities.versions)))
    return checks


def _has_no_kubernetes(credentials: Credentials) -> bool:
    try:
        credentials.current()
    except KubernetesAbsent:
        return True
    except KubernetesError:
        return False
    return False


def _versions_of(capability: link.Capability, versions: dict[str, str]) -> str:
    names = {"compose": ("docker", "compose"), "kubernetes": ("kubernetes",)}.get(capability.name, ())
    found = ", ".join(f"{name} {versions[name]}" for name in names if versions.get(name))
    return found or "allowed by the policy"


def _check_running(settings: AgentSettings) -> list[Check]:
    left = status.read(settings.state_folder)
    if left is None or not status.is_running(left):
        reason = f"; it last said: {left.last_error}" if left is not None and left.last_error else ""
        return [Check(name="agent", ok=False, text=f"no agent runs with {settings.state_folder}{reason}")]
    if left.connected:
        return [Check(name="agent", ok=True, text=f"runs, and is connected to {left.server}")]
    return [Check(name="agent", ok=False, text=f"runs, and is not connected: {left.last_error}")]
