"""The objects of ACME as values, and reading them from what an authority answers. No requests are made here.

Source: RFC 8555 section 7.1, RFC 9773.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from cryptography import x509

from towline.control.certificates.errors import AuthorityRefused, AuthorityUnreachable, CertificateError

LONGEST_RETRY = 7 * 86400.0
"""Longest wish of an authority that is followed; a longer one is a mistake, and a week is looked at by people."""
LONGEST_DETAIL = 500
"""Characters of an authority's words: it quotes what it was answered."""

_SHAPES = (KeyError, TypeError, ValueError, AttributeError)
"""What reading an answer that has another shape raises."""


@dataclass(frozen=True, slots=True)
class Directory:
    """What an authority says about itself."""

    urls: Mapping[str, str]
    identities: tuple[str, ...]
    """Names that CAA records know it by."""
    needs_binding: bool
    told_at: datetime | None = None
    """When it said so, by its own clock."""


@dataclass(frozen=True, slots=True)
class Order:
    url: str
    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str
    error: AuthorityRefused | None = None


@dataclass(frozen=True, slots=True)
class Challenge:
    kind: str
    url: str
    token: str
    status: str
    error: AuthorityRefused | None = None


@dataclass(frozen=True, slots=True)
class Authorization:
    """What has to be shown about one name; a wildcard's name comes without `*.`."""

    url: str
    name: str
    is_wildcard: bool
    status: str
    challenges: tuple[Challenge, ...]


@dataclass(frozen=True, slots=True)
class RenewalWindow:
    """When the authority wants a certificate to be renewed, and when to ask again."""

    begins_at: datetime
    ends_at: datetime
    ask_after: float


@dataclass(frozen=True, slots=True)
class Binding:
    """Ties an account to one at the authority's owner. The key is in no repr."""

    key_id: str
    hmac_key: str

    def __repr__(self) -> str:
        return f"<Binding {self.key_id}>"


def renewal_id(certificate: x509.Certificate) -> str:
    """Return the name of a certificate in ARI; empty for one without key identifier. Source: RFC 9773 section 4.1."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    except x509.ExtensionNotFound:
        return ""
    serial = certificate.serial_number
    number = serial.to_bytes(serial.bit_length() // 8 + 1, "big")  # DER: room for the sign
    return f"{base64url(found)}.{base64url(number)}" if found else ""


def challenge(found: Mapping[str, Any]) -> Challenge:
    return Challenge(
        str(found["type"]), str(found["url"]), str(found["token"]), str(found["status"]), problem(found.get("error"))
    )


def problem(found: Mapping[str, Any] | None) -> AuthorityRefused | None:
    """Read a problem document inside an object. Source: RFC 7807."""
    if not found:
        return None
    code = str(found.get("type", "unknown")).rpartition(":")[2]
    words = [str(found.get("detail") or found.get("title") or "")]
    words += [str(each.get("detail", "")) for each in found.get("subproblems") or () if isinstance(each, Mapping)]
    return AuthorityRefused(code, "; ".join(filter(None, words))[:LONGEST_DETAIL])


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds of `Retry-After`, a number or a date (RFC 9110 section 10.2.3); 0 without one."""
    text = headers.get("Retry-After", "").strip()
    if text.isdigit():
        return min(float(text), LONGEST_RETRY)
    try:
        moment = parsedate_to_datetime(text)
        sent = parsedate_to_datetime(headers.get("Date", ""))
        return min(max(0.0, (moment - sent).total_seconds()), LONGEST_RETRY)
    except (ValueError, TypeError, IndexError):
        return 0.0


def told_at(headers: Mapping[str, str]) -> datetime | None:
    """Return the sender's clock, if it says it."""
    try:
        return parsedate_to_datetime(headers.get("Date", "")).astimezone(UTC)
    except (ValueError, TypeError, IndexError):
        return None


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


class shaped:  # noqa: N801
    """Turn an answer of another shape into an error that names it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _SHAPES) and not isinstance(error, CertificateError):
            raise AuthorityUnreachable(f"the authority's words cannot be read: {self._what}") from error
