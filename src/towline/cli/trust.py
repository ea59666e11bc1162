"""Trust in a server's certificate: the system's, a CA file's, or one authority pinned by its fingerprint."""

import hashlib
import socket
import ssl
from urllib.parse import urlsplit

from towline.cli.errors import AWAY, NOT_ALLOWED, CliError

CONNECT_TIMEOUT = 10.0


def context(authority: str = "") -> ssl.SSLContext:
    """Return a verifying context: for one pinned authority (PEM) when given, else for the system's."""
    return ssl.create_default_context(cadata=authority) if authority else ssl.create_default_context()


def is_trusted(url: str) -> bool:
    """Tell whether the system's trust accepts the server's certificate."""
    try:
        _chain(url, context())
    except ssl.SSLCertVerificationError:
        return False
    return True


def offered(url: str) -> tuple[str, str]:
    """Return fingerprint (`sha256:` + hex) and PEM of the authority at the end of the chain that the server sends."""
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    der = _chain(url, unchecked)[-1]
    return f"sha256:{hashlib.sha256(der).hexdigest()}", ssl.DER_cert_to_PEM_cert(der)


def pinned(url: str, fingerprint: str) -> str:
    """Return the PEM of the authority with this fingerprint, after a handshake that was verified against it.

    Raises: CliError: the server shows another one.
    """
    wanted = "sha256:" + fingerprint.strip().lower().removeprefix("sha256:").replace(":", "")
    seen, authority = offered(url)
    if seen != wanted:
        raise CliError(
            f"{url} shows the authority {seen}, not {wanted}",
            hint="somebody may stand between you and the server; ask its administrator for the fingerprint",
            code=NOT_ALLOWED,
        )
    _chain(url, context(authority))
    return authority


def _chain(url: str, trust: ssl.SSLContext) -> list[bytes]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        with (
            socket.create_connection((host, port), CONNECT_TIMEOUT) as raw,
            trust.wrap_socket(raw, server_hostname=host) as secured,
        ):
            return _certificates(secured)
    except ssl.SSLCertVerificationError:
        raise
    except OSError as error:
        raise CliError(f"cannot reach {host}:{port}: {error}", code=AWAY) from error


def _certificates(secured: ssl.SSLSocket) -> list[bytes]:
    if hasattr(secured, "get_unverified_chain"):  # Python 3.13
        return [bytes(der) for der in secured.get_unverified_chain()]
    inner = secured._sslobj  # type: ignore[attr-defined]  # the public name came with 3.13
    return [ssl.PEM_cert_to_DER_cert(entry.public_bytes()) for entry in inner.get_unverified_chain()]
