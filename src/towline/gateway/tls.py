"""TLS contexts of the edge. Where certificates come from is somebody else's business."""

import re
import ssl
from pathlib import Path

MAX_NAME_BYTES = 253  # RFC 1035 section 2.3.4

_NAME = re.compile(r"(?=.*[a-z])(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.IGNORECASE)


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a server context for a certificate chain and its key, both PEM.

    TLS 1.2 and newer; the server name that a client asks for is kept for the check against Host.
    Raises: OSError, ssl.SSLError: the files cannot be read or do not fit.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    context.sni_callback = remember_server_name
    return context


def harden(context: ssl.SSLContext) -> None:
    """Set what every server context of ours has: TLS 1.2 and newer, no compression, no renegotiation."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def remember_server_name(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int | None:
    """Keep the name on the connection, or end the handshake when it is none; usable as `sni_callback`.

    Addresses are not allowed in SNI (RFC 6066 section 3), and neither are underscores, wildcards or trailing dots.
    """
    if name is None:
        return None
    if len(name) > MAX_NAME_BYTES or _NAME.fullmatch(name) is None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    connection.towline_server_name = name.lower()  # type: ignore[attr-defined]
    return None
