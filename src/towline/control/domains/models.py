"""Table of domains. Columns only; every query is in `repository`."""

from datetime import datetime

from sqlalchemy import Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base


class Domain(Base):
    """A domain that an organisation says is its own. `name` is a lower-case A-label form, without a last dot."""

    __tablename__ = "domain"
    __table_args__ = (UniqueConstraint("org_id", "name"), Index("ix_domain_name", "name"))

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(40))
    name: Mapped[str] = mapped_column(String(253))
    state: Mapped[str] = mapped_column(String(16), default="pending")
    """`pending`, `verified`, or `lapsed`: its proof has been gone for long, and no new name is taken below it."""
    token: Mapped[str] = mapped_column(String(64))
    """What the TXT record has to say. Public by nature."""
    verified_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    missing_since: Mapped[datetime | None]
    """When a look at a verified domain did not find the proof for the first time in a row."""
    reason: Mapped[str] = mapped_column(String(500), default="")
    """What the last look found, in words."""
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(80), default="")

    def __repr__(self) -> str:
        return f"<Domain {self.name} {self.state}>"
