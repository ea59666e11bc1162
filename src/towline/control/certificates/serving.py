"""Brings what the rows say into the memory that handshakes look at: certificates and open challenges."""

from __future__ import annotations

import asyncio
import ssl

from towline.control.certificates import repository
from towline.control.certificates.answers import ChallengeAnswers
from towline.control.certificates.keeping import Keeper
from towline.control.certificates.models import Certificate
from towline.control.logging import get_logger
from towline.control.sealing.service import CannotOpen
from towline.gateway.certificates import Certificates, Material, context_of

_log = get_logger("certificates")


class Serving:
    """Reloads after each hint, and now and then without one."""

    def __init__(self, keeper: Keeper, certificates: Certificates, answers: ChallengeAnswers) -> None:
        self._keeper = keeper
        self._certificates = certificates
        self._answers = answers
        self._held: dict[str, Material] = {}

    def __repr__(self) -> str:
        return f"<Serving {len(self._held)} certificates>"

    async def reload(self) -> None:
        """Serve what the rows say now. What cannot be opened or used is left out, and said."""
        async with self._keeper.db.read() as tx:
            served = [f"{row_id}/{serial}" for row_id, serial in await repository.served(tx)]
            missing = [key.partition("/")[0] for key in served if key not in self._held]
            rows = await repository.by_ids(tx, missing)
            challenges = await repository.challenges(tx)
        made = [await asyncio.to_thread(self._material, row) for row in rows]
        fresh = {material.id: material for material in made if material is not None}
        self._held = {key: found for key in served if (found := self._held.get(key) or fresh.get(key))}
        held = self._held
        self._certificates.replace(held.values())
        self._answers.replace(challenges)

    async def reload_challenges(self) -> None:
        """Answer what the rows say now: the quicker half."""
        async with self._keeper.db.read() as tx:
            self._answers.replace(await repository.challenges(tx))

    def _material(self, row: Certificate) -> Material | None:
        try:
            found = Material(f"{row.id}/{row.serial}", tuple(row.names), row.chain.encode(), self._keeper.key(row))
            context_of(found)
        except (CannotOpen, ssl.SSLError, OSError) as error:
            _log.error("certificate cannot be served", name=row.name, why=str(error))
            return None
        return found
