"""What the rest of the control plane asks about certificates: the light of a route, and whose a name is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline.control.certificates.schemas import CertificateOut
from towline.control.certificates.states import Source, State
from towline.control.domains import repository as domains
from towline.control.domains.names import is_under
from towline.control.routes.schemas import Light
from towline.gateway.certificates import covers

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

NAME = "certificate"


async def certificate_light(control: ControlPlane, host: str) -> Light:
    """Say what visitors of a host are shown, and why."""
    found = await control.certificates.service.of_host(host)
    if found is not None:
        return _light_of(found)
    own = covers(control.certificates.handshakes.own_names, host)
    if own:
        return Light(name=NAME, state="ok", reason="the server's own certificate is for this name")
    return Light(name=NAME, state="failed", reason="nothing certifies this name: set acme_directory, or upload one")


def _light_of(found: CertificateOut) -> Light:
    if found.source == Source.LOCAL:
        return Light(name=NAME, state="ok", reason=found.reason)
    until = f"{found.name}, by {found.issuer}, until {found.ends_at:%Y-%m-%d}" if found.ends_at else found.name
    if found.served and found.state != State.EXPIRED:
        words = f"{until}; but the next one does not come: {found.reason}" if found.is_ending else until
        return Light(name=NAME, state="unknown" if found.is_ending else "ok", reason=words)
    if found.state in (State.WAITING, State.ORDERING):
        return Light(name=NAME, state="unknown", reason="the authority is being asked")
    again = f"; tried again at {found.next_try_at:%H:%M} UTC" if found.next_try_at else ""
    return Light(name=NAME, state="failed", reason=f"{found.state}: {found.reason}{again}")


async def upload_problem(control: ControlPlane, org_id: str, name: str) -> str:
    """Return why an organisation may not bring a certificate for a name; empty when it may.

    Its own verified domains, and, for the organisation that runs the server, what the settings name.
    """
    bare, settings = name.removeprefix("*."), control.settings
    async with control.db.read() as tx:
        verified = (await domains.verified_by_org(tx, [org_id])).get(org_id, set())
    named = [*settings.own_hosts(), settings.gateway_domain, settings.kubernetes_host, *settings.published]
    ours = [each for each in named if each] if org_id == control.default_org else []
    if any(is_under(bare, each) for each in (*verified, *ours)):
        return ""
    return f"{bare} is under no verified domain; an administrator proves it with: towline domains add {bare}"
