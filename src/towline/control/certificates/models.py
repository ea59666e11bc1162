"""Tables of certificates. Columns only; every query is in `repository`.

One row of `certificate` for each name of the whole installation: that is what keeps a name from being asked for twice.
"""

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

NAME_CHARACTERS = 253
REASON_CHARACTERS = 1000
"""A reason is a few sentences; an authority may quote what it was answered."""


class Certificate(Base):
    """A name that people reach, its certificate, and the order that will bring the next one."""

    __tablename__ = "certificate"
    __table_args__ = (UniqueConstraint("name"), Index("ix_certificate_due", "wanted", "next_at"))

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    """Lower-case host, or `*.` and one."""
    source: Mapped[str] = mapped_column(String(16))
    """`acme`, `upload` or `local`."""
    state: Mapped[str] = mapped_column(String(16))
    """One of `states.State`."""
    reason: Mapped[str] = mapped_column(String(REASON_CHARACTERS), default="")
    wanted: Mapped[bool] = mapped_column(default=True)
    """A route, or the server itself, needs it now."""

    # -- what is served
    serial: Mapped[int] = mapped_column(default=0)
    """Grows with each certificate; part of what seals its key."""
    names: Mapped[list[str]] = mapped_column(default=list)
    chain: Mapped[str] = mapped_column(Text, default="")
    sealed_key: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    issuer: Mapped[str] = mapped_column(String(255), default="")
    fingerprint: Mapped[str] = mapped_column(String(80), default="")
    begins_at: Mapped[datetime | None]
    ends_at: Mapped[datetime | None]
    renew_at: Mapped[datetime | None]
    """When the next one should be asked for: the authority's word, or two thirds of the life."""
    asked_ari_at: Mapped[datetime | None]
    warned_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    # -- the order
    order_url: Mapped[str] = mapped_column(String(1000), default="")
    order_serial: Mapped[int] = mapped_column(default=0)
    sealed_order_key: Mapped[bytes] = mapped_column(LargeBinary, default=b"")
    """The key of the certificate to come, kept before it is asked for: whoever goes on with the order needs it."""
    challenge: Mapped[str] = mapped_column(String(16), default="")
    directory: Mapped[str] = mapped_column(String(500), default="")
    """Of the authority that was asked; orders and ARI belong to it."""
    attempts: Mapped[int] = mapped_column(default=0)
    """Failures since the last success."""
    next_at: Mapped[datetime]
    """Nothing is tried before."""
    force: Mapped[bool] = mapped_column(default=False)
    """Somebody asked for the next try whatever a look from here says."""

    # -- who works on it
    owner: Mapped[str] = mapped_column(String(64), default="")
    epoch: Mapped[int] = mapped_column(default=0)
    """Grows with each taking of the lease; what somebody writes who lost it is refused."""
    lease_until: Mapped[datetime | None]

    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<Certificate {self.name} {self.source} {self.state}>"


class AcmeAccount(Base):
    """Our account at one authority. Its key is sealed."""

    __tablename__ = "acme_account"

    directory: Mapped[str] = mapped_column(String(500), primary_key=True)
    sealed_key: Mapped[bytes] = mapped_column(LargeBinary)
    url: Mapped[str] = mapped_column(String(1000), default="")
    """Empty: the key was kept, and the authority not asked yet."""
    email: Mapped[str] = mapped_column(String(255), default="")
    created_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<AcmeAccount {self.directory}>"


class AcmeChallenge(Base):
    """What some replica has to answer when an authority looks. Any replica may be asked."""

    __tablename__ = "acme_challenge"

    token: Mapped[str] = mapped_column(String(128), primary_key=True)
    certificate_id: Mapped[str] = mapped_column(String(64), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    answer: Mapped[str] = mapped_column(String(512))
    """Key authorisation, or the value of the TXT record; public by nature."""
    expires_at: Mapped[datetime]

    def __repr__(self) -> str:
        return f"<AcmeChallenge {self.kind} {self.name}>"


class AcmeOrder(Base):
    """One time that an authority was asked: what budgets are counted by, and what happened to each."""

    __tablename__ = "acme_order"
    __table_args__ = (
        Index("ix_acme_order_domain", "directory", "domain", "created_at"),
        Index("ix_acme_order_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    directory: Mapped[str] = mapped_column(String(500))
    name: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    domain: Mapped[str] = mapped_column(String(NAME_CHARACTERS))
    """The registrable domain, which authorities count by."""
    state: Mapped[str] = mapped_column(String(16))
    """`open`, `issued`, or `failed`."""
    renewal: Mapped[bool] = mapped_column(default=False)
    """It named the certificate that it replaces, which authorities do not count."""
    reason: Mapped[str] = mapped_column(String(REASON_CHARACTERS), default="")
    created_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<AcmeOrder {self.name} {self.state}>"
