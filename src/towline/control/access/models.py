"""Tables of identity: organisations, users, sessions, tokens, grants, tickets. Secrets are kept as hashes alone."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from towline.control.db import Base

Id = String(64)


class Organisation(Base):
    __tablename__ = "organisation"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    created_at: Mapped[datetime]


class User(Base):
    """A person. `password_hash` is argon2id, or empty when nobody can sign in with a password."""

    __tablename__ = "user_account"
    __table_args__ = (UniqueConstraint("username"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(Id, ForeignKey("organisation.id"), index=True)
    username: Mapped[str] = mapped_column(String(128))
    password_hash: Mapped[str]
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime]
    changed_at: Mapped[datetime]
    last_login_at: Mapped[datetime | None]


class Session(Base):
    """A browser that is signed in."""

    __tablename__ = "session"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(Id, index=True)
    user_id: Mapped[str] = mapped_column(Id, ForeignKey("user_account.id", ondelete="CASCADE"), index=True)
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    address: Mapped[str]
    browser: Mapped[str]
    created_at: Mapped[datetime]
    used_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ApiToken(Base):
    """A token for programs. `user_id` is empty for a service token, whose rights are its own grants."""

    __tablename__ = "api_token"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(Id, index=True)
    kind: Mapped[str] = mapped_column(String(16))
    user_id: Mapped[str] = mapped_column(Id, index=True)
    name: Mapped[str] = mapped_column(String(128))
    secret_hash: Mapped[str] = mapped_column(String(64), unique=True)
    limit_role: Mapped[str] = mapped_column(String(16))
    """Empty: all that the user may."""
    limit_reach: Mapped[dict[str, Any]]
    created_by: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Grant(Base):
    """One role for a user or a service token, at one place."""

    __tablename__ = "access_grant"
    __table_args__ = (Index("ix_access_grant_subject", "subject_kind", "subject_id"),)

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    org_id: Mapped[str] = mapped_column(Id, ForeignKey("organisation.id"), index=True)
    subject_kind: Mapped[str] = mapped_column(String(16))
    """`user` or `token`."""
    subject_id: Mapped[str] = mapped_column(Id)
    role: Mapped[str] = mapped_column(String(16))
    reach: Mapped[dict[str, Any]]
    """JSON of a `permissions.Reach`."""
    created_by: Mapped[str] = mapped_column(Id)
    created_at: Mapped[datetime]


class Ticket(Base):
    """Lets a client that cannot set headers open one WebSocket."""

    __tablename__ = "ticket"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(Id)
    session_id: Mapped[str] = mapped_column(Id)
    token_id: Mapped[str] = mapped_column(Id)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]


class KubernetesToken(Base):
    """Opens Kubernetes APIs and nothing else, for an hour. It lives no longer than what it was made with."""

    __tablename__ = "kubernetes_token"

    secret_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    org_id: Mapped[str] = mapped_column(Id)
    session_id: Mapped[str] = mapped_column(Id)
    token_id: Mapped[str] = mapped_column(Id)
    """The session or the API token that it was made with; the other is empty."""
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SetupToken(Base):
    """The one-time secret that makes the first user. At most one row."""

    __tablename__ = "setup_token"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    secret_hash: Mapped[str] = mapped_column(String(64))
    expires_at: Mapped[datetime]
