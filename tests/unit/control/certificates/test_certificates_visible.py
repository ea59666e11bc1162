"""Who sees names of certificates: those who may see all routes of the organisation, in the list and one by one."""

from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from towline.control.access.actor import Access, Actor
from towline.control.access.permissions import Reach, Right, Rights, Role, ScopeKind
from towline.control.audit.service import AuditLog
from towline.control.certificates.keeping import Keeper
from towline.control.certificates.service import CertificateService
from towline.control.errors import ApiError
from towline.control.ids import DEFAULT_ORG


class Rows:
    """A database without certificates."""

    @asynccontextmanager
    async def read(self) -> Any:
        yield self

    async def now(self) -> None: ...

    async def scalars(self, query: object) -> "Rows":
        return self

    def all(self) -> list[Any]:
        return []

    def first(self) -> None: ...


class Keeping:
    """What the service keeps rows by."""

    db = Rows()


def access(reach: Reach) -> Access:
    return Access(Actor("user", DEFAULT_ORG, "usr_1", "nora"), Rights((Right(Role.DEPLOYER, reach),)))


def new_service() -> CertificateService:
    service = CertificateService(cast(Keeper, Keeping()), cast(AuditLog, None), None)
    service.local_owners = lambda: {"shop.example.test": DEFAULT_ORG}
    return service


async def test_a_list_shows_no_name_that_cannot_be_looked_at() -> None:
    nora = access(Reach(ScopeKind.NAMESPACE, namespace="shop"))
    service = new_service()
    assert await service.visible(nora) == []
    with pytest.raises(ApiError, match=r"shop\.example\.test"):
        await service.get(nora, "shop.example.test")


async def test_who_may_see_all_routes_sees_every_name() -> None:
    service, dora = new_service(), access(Reach())
    assert [one.name for one in await service.visible(dora)] == ["shop.example.test"]
    assert (await service.get(dora, "shop.example.test")).source == "local"
