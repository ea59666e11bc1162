"""Secrets of deployments: sealed when they come in, opened only to be sealed again for an agent.

Values never leave this module except into `HpkeSealed` text, or into a comparison. Not here: keys and envelopes.
"""

import hmac
import json
from collections.abc import Mapping
from typing import Protocol

from pydantic import SecretStr

from towline.control.access.actor import Actor
from towline.control.db import Transaction
from towline.control.deployments import repository
from towline.control.deployments.models import Deployment, Revision, SecretVersion
from towline.control.errors import ApiError, ErrorCode
from towline.control.ids import new_id
from towline.wire import orders

SECRET_PURPOSE = "deployment-secret"  # noqa: S105 - a name, not a secret
VALUES_PURPOSE = "revision-values"
ORDER_PURPOSE = "waiting-order"
NEW_VERSION = "new"

Given = Mapping[str, SecretStr | None] | None
"""Values by name as `schemas.Content.secrets` takes them: None keeps one, or all."""


class Sealer(Protocol):
    """What seals at rest, bound to an organisation, a record, its version and a purpose."""

    def seal(self, org_id: str, record_id: str, version: int, purpose: str, plaintext: bytes) -> bytes: ...

    def open(self, org_id: str, record_id: str, version: int, purpose: str, sealed: bytes) -> bytes: ...


class Vault:
    """Keeps the secret values of deployments."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def __repr__(self) -> str:
        return "<Vault>"

    async def settle(
        self,
        tx: Transaction,
        deployment: Deployment,
        actor: Actor,
        before: Mapping[str, int],
        given: Given,
    ) -> dict[str, int]:
        """Decide which version of each secret a new revision uses, and store new values.

        Args: before: what the newest revision uses. given: as in `schemas.Content.secrets`. A value that is the
            one already kept makes no new version, so that nothing is recreated for it.
        Raises: ApiError: invalid, when a value is to be kept and there is none.
        """
        kept, new = await self._sort(tx, deployment, before, given)
        return kept | {name: await self._store(tx, deployment, actor, name, value) for name, value in new.items()}

    async def preview(
        self, tx: Transaction, deployment: Deployment, before: Mapping[str, int], given: Given
    ) -> dict[str, str]:
        """Return the versions that `settle` would make, as text; what would be new is told by its name alone.

        Raises: ApiError: invalid, as `settle`.
        """
        kept, new = await self._sort(tx, deployment, before, given)
        return {name: str(version) for name, version in kept.items()} | dict.fromkeys(new, NEW_VERSION)

    async def values(
        self, tx: Transaction, deployment: Deployment, before: Mapping[str, int], given: Given
    ) -> dict[str, str]:
        """Return the values that `settle` would leave in force. Raises: ApiError: invalid, as `settle`."""
        kept, new = await self._sort(tx, deployment, before, given)
        return await self.open(tx, deployment, kept) | {name: value.get_secret_value() for name, value in new.items()}

    async def open(self, tx: Transaction, deployment: Deployment, wanted: Mapping[str, int]) -> dict[str, str]:
        """Open some versions, by secret name. Raises: ApiError: conflict, when one is gone."""
        rows = await repository.secret_versions(tx, deployment.id, wanted)
        if missing := sorted(set(wanted) - set(rows)):
            raise ApiError(
                ErrorCode.CONFLICT,
                f"the value of {', '.join(missing)} is no longer kept",
                hint="deploy a new revision with the value",
            )
        return {name: self._open(row).decode() for name, row in rows.items()}

    def seal_values(self, revision: Revision, env: str | None, variables: Mapping[str, str]) -> None:
        """Put env file and variables into a revision, sealed."""
        revision.has_env = env is not None
        revision.variables = sorted(variables)
        plain = json.dumps({"env": env, "variables": dict(variables)}).encode()
        revision.sealed_values = self._sealer.seal(revision.org_id, revision.id, 1, VALUES_PURPOSE, plain)

    def open_values(self, revision: Revision) -> tuple[str | None, dict[str, str]]:
        """Return env file and variables of a revision."""
        if revision.sealed_values is None:
            return None, {}
        plain = self._sealer.open(revision.org_id, revision.id, 1, VALUES_PURPOSE, revision.sealed_values)
        values = json.loads(plain)
        return values["env"], values["variables"]

    def order(self, deployment: Deployment, revision: Revision) -> orders.Deploy:
        """Return the order that brings up a revision, as its rows say it."""
        env, variables = self.open_values(revision)
        return orders.Deploy(
            project=deployment.name,
            org_id=deployment.org_id,
            deployment_id=deployment.id,
            revision=revision.number,
            revision_id=revision.id,
            compose=revision.compose or "",
            env=env or "",
            bundle=revision.bundle or "",
            variables=variables,
            secret_names=tuple(revision.secrets),
            policy_level=deployment.policy_level,
            settle_seconds=deployment.settle_seconds,
            scales={name: int(count) for name, count in deployment.scales.items()},
        )

    def seal_text(self, org_id: str, record_id: str, plain: bytes) -> bytes:
        """Seal something that waits in a job's row."""
        return self._sealer.seal(org_id, record_id, 1, ORDER_PURPOSE, plain)

    def open_text(self, org_id: str, record_id: str, sealed: bytes) -> bytes:
        """Open what `seal_text` sealed."""
        return self._sealer.open(org_id, record_id, 1, ORDER_PURPOSE, sealed)

    async def _sort(
        self, tx: Transaction, deployment: Deployment, before: Mapping[str, int], given: Given
    ) -> tuple[dict[str, int], dict[str, SecretStr]]:
        """Tell the versions that stay from the values that are new."""
        if given is None:
            return dict(before), {}
        known = await self.open(tx, deployment, {name: before[name] for name in given if name in before})
        kept: dict[str, int] = {}
        new: dict[str, SecretStr] = {}
        for name, value in given.items():
            if value is None:
                kept[name] = before.get(name) or await self._newest(tx, deployment, name)
            elif name in known and _same(known[name], value):
                kept[name] = before[name]
            else:
                new[name] = value
        return kept, new

    async def _newest(self, tx: Transaction, deployment: Deployment, name: str) -> int:
        number = await repository.newest_secret_version(tx, deployment.id, name)
        if not number:
            raise ApiError(
                ErrorCode.INVALID, f"the secret {name} has no value yet", hint="send its value with this revision"
            )
        return number

    async def _store(self, tx: Transaction, deployment: Deployment, actor: Actor, name: str, value: SecretStr) -> int:
        version = await repository.newest_secret_version(tx, deployment.id, name) + 1
        secret_id = new_id("sec")
        plain = value.get_secret_value().encode()
        tx.add(
            SecretVersion(
                id=secret_id,
                org_id=deployment.org_id,
                deployment_id=deployment.id,
                name=name,
                version=version,
                sealed=self._sealer.seal(deployment.org_id, secret_id, version, SECRET_PURPOSE, plain),
                created_by=actor.user_id,
                created_at=await tx.now(),
            )
        )
        await tx.flush()
        return version

    def _open(self, row: SecretVersion) -> bytes:
        return self._sealer.open(row.org_id, row.id, row.version, SECRET_PURPOSE, row.sealed)


def _same(known: str, given: SecretStr) -> bool:
    return hmac.compare_digest(known.encode(), given.get_secret_value().encode())
