"""Tables of bundles: one row for each, and its bytes in chunks. Columns only; every query is in `repository`."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base


class Bundle(Base):
    """The files beside a Compose file: a plain tar, known by its SHA-256 within one organisation."""

    __tablename__ = "bundle"
    __table_args__ = (UniqueConstraint("org_id", "digest"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(71))
    size: Mapped[int]
    files: Mapped[dict[str, str]] = mapped_column(default=dict)
    """Path to digest of each file, so that a project can be checked and compared without reading the bundle."""
    created_by: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime]
    used_at: Mapped[datetime] = mapped_column(index=True)
    """Last uploaded or named by a revision: one that nobody names goes some time after."""

    def __repr__(self) -> str:
        return f"<Bundle {self.digest[:19]} {self.size}>"


class BundleChunk(Base):
    """Consecutive bytes of a bundle, so that nobody needs to hold all of it to pass it on."""

    __tablename__ = "bundle_chunk"

    bundle_id: Mapped[str] = mapped_column(ForeignKey("bundle.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)
