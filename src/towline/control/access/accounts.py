"""Changes to users, sessions, tokens and grants: the rules, the audit events, and what each change ends.

Nobody gives away more than they hold, and an organisation never loses its last owner.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError

from towline.control.access import repository, secrets
from towline.control.access.actor import Access, Actor
from towline.control.access.giving import may_give, own_or
from towline.control.access.models import ApiToken, Grant, Session, Ticket, User
from towline.control.access.passwords import Passwords
from towline.control.access.permissions import Permission, Right, Rights, Role
from towline.control.access.throttle import source_key
from towline.control.db import Transaction, now
from towline.control.errors import ApiError, ErrorCode, not_found
from towline.control.ids import is_id, new_id

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

TICKET_SECONDS = 30
LONGEST_TOKEN_LIFE = timedelta(days=3650)
TOKENS_PER_USER = 200
"""Live tokens of one user: more is a program that forgets its own."""
BROWSER_CHARACTERS = 200

TokenKind = Literal["user", "service"]
ClusterIdOf = Callable[[Access, str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session; the secret goes into the cookie and nowhere else."""

    user: User
    session_id: str
    secret: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewToken:
    token: ApiToken
    secret: str


class Accounts:
    """Users, and what they sign in with."""

    def __init__(self, control: ControlPlane) -> None:
        self._control = control
        self.passwords = Passwords()
        self.cluster_id: ClusterIdOf = _only_ids
        """How a scope's cluster, by name or id, is found. The clusters feature puts its own way here."""

    # -- signing in and out

    async def login(self, username: str, password: str, *, address: str, browser: str, request_id: str) -> SignedIn:
        """Sign in by password, as slowly for an unknown user. Raises: ApiError: login_failed, throttled."""
        user = await self.check_password(username, password, address=address, request_id=request_id)
        async with self._control.db.begin() as tx:
            return await self.open_session(tx, user, address=address, browser=browser, request_id=request_id)

    async def check_password(self, username: str, password: str, *, address: str, request_id: str) -> User:
        """Return the user whose password this is. Raises: ApiError: login_failed, throttled."""
        access = self._control.access
        access.login_addresses.check(source_key(address), "attempts to sign in from your address")
        access.login_accounts.check(username.lower(), "attempts to sign in to this account")
        async with self._control.db.read() as tx:
            user = await _user_by_name(tx, username)
        stored = user.password_hash if user is not None and user.active else ""
        if await self.passwords.verify(stored, password) and user is not None:
            return user
        org_id = user.org_id if user is not None else self._control.default_org
        actor = Actor("nobody", org_id, "", username[:128], address, request_id=request_id)
        await self._control.audit.record(
            self._control.db,
            actor,
            action="session.login",
            target_kind="user",
            result="refused",
            reason="wrong name or password",
        )
        raise ApiError(ErrorCode.LOGIN_FAILED, "the user name or the password is wrong")

    async def open_session(
        self, tx: Transaction, user: User, *, address: str, browser: str, request_id: str
    ) -> SignedIn:
        """Begin a session, always with a new secret."""
        secret = secrets.session_secret()
        moment = await tx.now()
        expires_at = moment + timedelta(seconds=self._control.settings.session_lifetime)
        session = Session(
            id=new_id("ses"),
            org_id=user.org_id,
            user_id=user.id,
            secret_hash=secrets.hashed(secret),
            address=address,
            browser=browser[:BROWSER_CHARACTERS],
            created_at=moment,
            used_at=moment,
            expires_at=expires_at,
        )
        tx.add(session)
        await tx.execute(update(User).where(User.id == user.id).values(last_login_at=moment))
        actor = Actor(
            "session", user.org_id, user.id, user.username, address, session_id=session.id, request_id=request_id
        )
        await self._control.audit.record(tx, actor, action="session.login", target_kind="session", target_id=session.id)
        return SignedIn(user, session.id, secret, expires_at)

    async def end_session(self, access: Access, session_id: str) -> None:
        """End one of one's own sessions, or, as an administrator, another's."""
        async with self._control.db.begin() as tx:
            session = await tx.get(Session, session_id)
            if session is None or session.org_id != access.org_id:
                raise not_found("session", session_id)
            own_or(access, session.user_id, Permission.USER_MANAGE, not_found("session", session_id))
            await tx.delete(session)
            await self._record(tx, access, "session.end", "session", session_id)

    async def sessions(self, access: Access) -> Sequence[Session]:
        """Return one's own live sessions, newest first."""
        query = select(Session).where(Session.user_id == access.actor.user_id, Session.expires_at > now())
        async with self._control.db.read() as tx:
            return (await tx.scalars(query.order_by(Session.created_at.desc()))).all()

    async def ticket(self, access: Access) -> tuple[str, datetime]:
        """Return a secret that opens one WebSocket within 30 s, as this very session or token."""
        secret = secrets.mint("twt")
        async with self._control.db.begin() as tx:
            expires_at = await tx.now() + timedelta(seconds=TICKET_SECONDS)
            tx.add(
                Ticket(
                    secret_hash=secrets.hashed(secret),
                    org_id=access.org_id,
                    session_id=access.actor.session_id,
                    token_id=access.actor.token_id,
                    expires_at=expires_at,
                )
            )
        return secret, expires_at

    # -- users

    async def create_user(
        self, actor: Actor, username: str, password: str, *, roles: Sequence[Role] = (), access: Access | None = None
    ) -> User:
        """Add a user, with roles on the whole organisation. Raises: ApiError: name_taken, invalid, forbidden."""
        stored = await self.passwords.hash(password) if password else ""
        for role in roles:
            may_give(access, Right(role))
        try:
            async with self._control.db.begin() as tx:
                return await self.add_user(tx, actor, username, stored, roles)
        except IntegrityError as error:
            raise ApiError(ErrorCode.NAME_TAKEN, f"there is a user {username!r} already") from error

    async def add_user(self, tx: Transaction, actor: Actor, username: str, stored: str, roles: Sequence[Role]) -> User:
        """Add a user in the caller's transaction. Args: stored: the hash of the password, or empty."""
        moment = await tx.now()
        user = User(
            id=new_id("usr"), org_id=actor.org_id, username=username, password_hash=stored, active=True,
            created_at=moment, changed_at=moment,
        )  # fmt: skip
        tx.add(user)
        await tx.flush()
        for role in roles:
            tx.add(_grant(actor, "user", user.id, Right(role), moment))
        await self._control.audit.record(
            tx, actor, action="user.create", target_kind="user", target_id=user.id, target_name=username,
            detail={"roles": [role.value for role in roles]},
        )  # fmt: skip
        return user

    async def user(self, access: Access, name: str) -> User:
        """Return a user by name or id; oneself always. Raises: ApiError: user_not_found."""
        async with self._control.db.read() as tx:
            return await self._user(tx, access, name, Permission.USER_READ)

    async def rights_of(self, access: Access, name: str) -> tuple[User, Rights]:
        """Return a user and all that they were granted, to who may read users and to themselves. Raises: ApiError."""
        async with self._control.db.read() as tx:
            user = await self._user(tx, access, name, Permission.USER_READ)
            return user, Rights(await repository.rights_of(tx, access.org_id, "user", user.id))

    async def _user(self, tx: Transaction, access: Access, name: str, permission: Permission) -> User:
        query = select(User).where(User.org_id == access.org_id, (User.username == name) | (User.id == name))
        user = (await tx.scalars(query)).one_or_none()
        if user is None:
            raise not_found("user", name)
        own_or(access, user.id, permission, not_found("user", name))
        return user

    async def set_active(self, access: Access, name: str, active: bool) -> User:
        """Let a user in, or shut them out: their sessions end, and with them every stream."""
        async with self._control.db.begin() as tx:
            access.require_org(Permission.USER_MANAGE)
            user = await self._user(tx, access, name, Permission.USER_MANAGE)
            await self._may_touch(tx, access, user)
            user.active, user.changed_at = active, await tx.now()
            await tx.flush()
            if not active:
                await tx.execute(delete(Session).where(Session.user_id == user.id))
            await self._keep_an_owner(tx, access.org_id)
            await self._record(tx, access, "user.enable" if active else "user.disable", "user", user.id, user.username)
            return user

    async def delete_user(self, access: Access, name: str) -> None:
        """Remove a user with their sessions, tokens and grants. The audit log keeps their name."""
        async with self._control.db.begin() as tx:
            access.require_org(Permission.USER_MANAGE)
            user = await self._user(tx, access, name, Permission.USER_MANAGE)
            await self._may_touch(tx, access, user)
            await tx.execute(delete(Grant).where(Grant.subject_kind == "user", Grant.subject_id == user.id))
            await tx.execute(delete(Session).where(Session.user_id == user.id))
            revoked = update(ApiToken).where(ApiToken.user_id == user.id, ApiToken.revoked_at.is_(None))
            await tx.execute(revoked.values(revoked_at=now()))
            await tx.delete(user)
            await tx.flush()
            await self._keep_an_owner(tx, access.org_id)
            await self._record(tx, access, "user.delete", "user", user.id, user.username)

    async def set_password(self, access: Access, name: str, password: str, current: str | None) -> None:
        """Change a password; every session of that user but the caller's own ends.

        Args: current: the password before, needed for one's own.
        """
        user = await self.user(access, name)
        own = user.id == access.actor.user_id
        if own:
            await self._prove(access, user, current or "")
        else:
            access.require_org(Permission.USER_MANAGE)
        stored = await self.passwords.hash(password)
        async with self._control.db.begin() as tx:
            if not own:
                await self._may_touch(tx, access, user)
            await tx.execute(update(User).where(User.id == user.id).values(password_hash=stored, changed_at=now()))
            others = delete(Session).where(Session.user_id == user.id, Session.id != access.actor.session_id)
            await tx.execute(others)
            await self._record(tx, access, "user.password", "user", user.id, user.username)

    async def _prove(self, access: Access, user: User, current: str) -> None:
        self._control.access.login_accounts.check(user.username.lower(), "attempts with this account's password")
        if not await self.passwords.verify(user.password_hash, current):
            raise ApiError(ErrorCode.FORBIDDEN, "the current password is wrong")

    async def force_owner(self, actor: Actor, username: str, password: str) -> str:
        """See `setup.reset_admin`. Also ends the user's sessions."""
        stored = await self.passwords.hash(password)
        async with self._control.db.begin() as tx:
            user = await _user_by_name(tx, username)
            if user is None:
                await self.add_user(tx, actor, username, stored, (Role.OWNER,))
                return "created"
            user.password_hash, user.active, user.changed_at = stored, True, await tx.now()
            await tx.execute(delete(Session).where(Session.user_id == user.id))
            await tx.flush()
            if user.id not in await repository.owners(tx, user.org_id):
                tx.add(_grant(actor, "user", user.id, Right(Role.OWNER), await tx.now()))
            await self._control.audit.record(
                tx, actor, action="user.reset", target_kind="user", target_id=user.id, target_name=username
            )
            self._control.access.changed(tx, user_id=user.id)
        return "reset"

    # -- grants

    async def grant(self, access: Access, subject_kind: str, subject: str, right: Right) -> Grant:
        """Give a role to a user or a service token. Raises: ApiError: forbidden, when it is more than one holds."""
        access.require_org(Permission.USER_MANAGE)
        may_give(access, right)
        async with self._control.db.begin() as tx:
            if subject_kind == "user":
                subject_id = (await self._user(tx, access, subject, Permission.USER_MANAGE)).id
            else:
                subject_id = (await self._token(tx, access, subject)).id
            grant = _grant(access.actor, subject_kind, subject_id, right, await tx.now())
            tx.add(grant)
            detail = {"role": right.role.value, "scope": right.reach.as_json(), "subject": subject_id}
            await self._record(tx, access, "grant.create", "grant", grant.id, detail=detail)
            return grant

    async def revoke_grant(self, access: Access, grant_id: str) -> None:
        """Take a role back. Raises: ApiError: last_owner."""
        access.require_org(Permission.USER_MANAGE)
        async with self._control.db.begin() as tx:
            grant = await tx.get(Grant, grant_id)
            if grant is None or grant.org_id != access.org_id:
                raise not_found("grant", grant_id)
            right = Right(Role(grant.role), repository.reach_from(grant.reach))
            may_give(access, right)
            await tx.delete(grant)
            await tx.flush()
            await self._keep_an_owner(tx, access.org_id)
            detail = {"role": grant.role, "scope": grant.reach, "subject": grant.subject_id}
            await self._record(tx, access, "grant.delete", "grant", grant_id, detail=detail)

    async def _may_touch(self, tx: Transaction, access: Access, user: User) -> None:
        """An administrator does not shut an owner out: that would be a way to become one."""
        for right in await repository.rights_of(tx, user.org_id, "user", user.id):
            may_give(access, right)

    async def _keep_an_owner(self, tx: Transaction, org_id: str) -> None:
        if not await repository.owners(tx, org_id):
            raise ApiError(ErrorCode.LAST_OWNER, "this would leave the organisation without an owner")

    # -- tokens

    async def create_token(
        self, access: Access, name: str, *, kind: TokenKind, right: Right | None, lifetime: timedelta | None
    ) -> NewToken:
        """Make a token for oneself, or a service token that stands alone. The secret is returned once.

        Args: right: for one's own, the most it may; for a service token, what it may. lifetime: None: the setting's.
        """
        if kind == "service":
            access.require_org(Permission.TOKEN_MANAGE)
        elif not access.actor.user_id:
            raise ApiError(ErrorCode.INVALID, "a service token makes no tokens of its own", hint="ask for kind=service")
        if right is None and access.rights.limit is not None:
            right = access.rights.limit[0]  # a limited token makes no freer one
        if right is not None:
            may_give(access, right)
        secret = secrets.mint("tws" if kind == "service" else "twl")
        async with self._control.db.begin() as tx:
            token = await self._add_token(tx, access, name, kind, right, lifetime, secret)
            until = token.expires_at.isoformat() if token.expires_at else ""
            detail = {"kind": kind, "role": right.role.value if right else "", "expires_at": until}
            await self._record(tx, access, "token.create", "token", token.id, name, detail)
            return NewToken(token, secret)

    async def _add_token(
        self, tx: Transaction, access: Access, name: str, kind: TokenKind, right: Right | None,
        lifetime: timedelta | None, secret: str,
    ) -> ApiToken:  # fmt: skip
        user_id = "" if kind == "service" else access.actor.user_id
        await self._limit_tokens(tx, access, user_id)
        moment = await tx.now()
        default = timedelta(seconds=self._control.settings.token_lifetime)
        limit = right if kind == "user" else None
        token = ApiToken(
            id=new_id("tok"), org_id=access.org_id, kind=kind, user_id=user_id, name=name,
            secret_hash=secrets.hashed(secret),
            limit_role=limit.role.value if limit else "", limit_reach=limit.reach.as_json() if limit else {},
            created_by=access.actor.user_id, created_at=moment,
            expires_at=moment + min(lifetime or default, LONGEST_TOKEN_LIFE),
        )  # fmt: skip
        tx.add(token)
        if kind == "service" and right is not None:
            tx.add(_grant(access.actor, "token", token.id, right, moment))
        return token

    async def _limit_tokens(self, tx: Transaction, access: Access, user_id: str) -> None:
        live = select(ApiToken.id).where(
            ApiToken.org_id == access.org_id, ApiToken.user_id == user_id, ApiToken.revoked_at.is_(None)
        )
        if len((await tx.scalars(live.limit(TOKENS_PER_USER))).all()) >= TOKENS_PER_USER:
            raise ApiError(ErrorCode.CONFLICT, f"there are {TOKENS_PER_USER} live tokens already", hint="revoke some")

    async def revoke_token(self, access: Access, token_id: str) -> None:
        """End a token: one's own, or, as an administrator, another's. Its streams end within seconds."""
        async with self._control.db.begin() as tx:
            token = await self._token(tx, access, token_id)
            await tx.execute(update(ApiToken).where(ApiToken.id == token.id).values(revoked_at=now()))
            await self._record(tx, access, "token.revoke", "token", token.id, token.name)

    async def _token(self, tx: Transaction, access: Access, token_id: str) -> ApiToken:
        token = await tx.get(ApiToken, token_id)
        if token is None or token.org_id != access.org_id or token.revoked_at is not None:
            raise not_found("token", token_id)
        own_or(access, token.user_id, Permission.TOKEN_MANAGE, not_found("token", token_id))
        return token

    async def _record(
        self, tx: Transaction, access: Access, action: str, kind: str, target_id: str, name: str = "",
        detail: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        await self._control.audit.record(
            tx, access.actor, action=action, target_kind=kind, target_id=target_id, target_name=name, detail=detail
        )
        self._control.access.changed(tx, target_id=target_id)


async def _only_ids(_: Access, cluster: str) -> str:
    if not is_id(cluster, "clu"):
        raise not_found("cluster", cluster)
    return cluster


async def _user_by_name(tx: Transaction, username: str) -> User | None:
    return (await tx.scalars(select(User).where(User.username == username))).one_or_none()


def _grant(actor: Actor, kind: str, subject_id: str, right: Right, moment: datetime) -> Grant:
    return Grant(
        id=new_id("grt"), org_id=actor.org_id, subject_kind=kind, subject_id=subject_id, role=right.role.value,
        reach=right.reach.as_json(), created_by=actor.user_id, created_at=moment,
    )  # fmt: skip
