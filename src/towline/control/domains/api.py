"""REST routes of domains. Thin: permission, call, shape."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.domains.models import Domain
from towline.control.domains.schemas import DomainOut, DomainRequest, Record
from towline.control.domains.service import Domains, proof_of
from towline.control.listing import ListQuery, Page, list_query, page

router = APIRouter(prefix="/api/v1/domains", tags=["domains"])

_STATES: dict[str, Literal["pending", "verified", "lapsed"]] = {"verified": "verified", "lapsed": "lapsed"}
CanRead = Annotated[Access, needs(Permission.ROUTE_READ)]
CanManage = Annotated[Access, needs(Permission.DOMAIN_MANAGE)]


def _service(request: Request) -> Domains:
    service: Domains = request.app.state.control.domains
    return service


@router.get("")
async def list_domains(
    request: Request, access: CanRead, query: Annotated[ListQuery, Depends(list_query)]
) -> Page[DomainOut]:
    """List the organisation's domains, with the record that proves each."""
    return page(await _service(request).page(access, query), shown)


@router.post("", status_code=201)
async def add_domain(request: Request, access: CanManage, body: DomainRequest) -> DomainOut:
    """Add a domain. The answer has the TXT record to set; then verify it."""
    return shown(await _service(request).add(access, body.name))


@router.get("/{name}")
async def get_domain(request: Request, access: CanRead, name: str) -> DomainOut:
    """Show one domain."""
    return shown(await _service(request).get(access, name))


@router.post("/{name}/verify")
async def verify_domain(request: Request, access: CanManage, name: str) -> DomainOut:
    """Look for the proof in DNS now. Routes that waited for it are decided about at once."""
    return shown(await _service(request).verify(access, name))


@router.delete("/{name}", status_code=204)
async def remove_domain(request: Request, access: CanManage, name: str) -> Response:
    """Give a domain up. Its routes answer no more."""
    await _service(request).remove(access, name)
    return Response(status_code=204)


def shown(row: Domain) -> DomainOut:
    """Return a domain as the API shows it."""
    proof = proof_of(row)
    return DomainOut(
        id=row.id,
        name=row.name,
        state=_STATES.get(row.state, "pending"),
        reason=row.reason,
        record=Record(name=proof.name, value=proof.value),
        created_at=row.created_at,
        created_by=row.created_by,
        verified_at=row.verified_at,
        checked_at=row.checked_at,
        missing_since=row.missing_since,
    )
