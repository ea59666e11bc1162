"""The states of a certificate.

    waiting ──▶ ordering ──▶ issued ──▶ ordering (renewal) ──▶ issued
       ▲            │           │
       └─ blocked ◀─┤           ├──▶ revoked ──▶ waiting
          failed  ◀─┘           └──▶ expired ──▶ ordering

A certificate that is being renewed, or whose renewal fails, is served until it ends: the dates say whether there is
one, the state says what is going on. Only who holds the lease of a row moves it, and people by `service`.
"""

from enum import StrEnum


class State(StrEnum):
    WAITING = "waiting"
    """Wanted; nobody has begun."""
    BLOCKED = "blocked"
    """Not asked for, because it could not work: the reason says what to change."""
    ORDERING = "ordering"
    """The authority was asked."""
    FAILED = "failed"
    """The authority refused, or could not be reached; it is tried again later."""
    ISSUED = "issued"
    REVOKED = "revoked"
    """Not served any more."""
    EXPIRED = "expired"


class Source(StrEnum):
    ACME = "acme"
    UPLOAD = "upload"
    LOCAL = "local"
    """Made when asked for, see `local`; there are no rows of these."""


class ChallengeKind(StrEnum):
    HTTP = "http-01"
    TLS_ALPN = "tls-alpn-01"
    DNS = "dns-01"
