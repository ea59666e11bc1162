"""The installer script with this server's address and pins written into it. Pure but for reading the template."""

import shlex
from functools import cache
from pathlib import Path

from towline import __version__
from towline.control.agents.identity import ServerIdentity

TEMPLATE = Path(__file__).with_name("install.sh")


def render(identity: ServerIdentity) -> str:
    """Return the script for one server."""
    values = {
        "SERVER": identity.urls[0] if identity.urls else identity.origin,
        "PINS": ";".join(identity.spki_pins),
        "FINGERPRINT": identity.fingerprints[0] if identity.fingerprints else "",
        "VERSION": __version__,
    }
    text = _template()
    for name, value in values.items():
        text = text.replace(f"@{name}@", shlex.quote(value))
    return text


@cache
def _template() -> str:
    return TEMPLATE.read_text()
