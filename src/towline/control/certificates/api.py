"""REST routes of certificates. Thin: permission, call, shape."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.certificates.schemas import (
    AuthorityOut,
    CertificateOut,
    RenewRequest,
    RevokeRequest,
    UploadOut,
    UploadRequest,
)
from towline.control.certificates.service import CertificateService
from towline.control.errors import not_found
from towline.control.listing import SEARCH_CHARACTERS, Page

if TYPE_CHECKING:
    from towline.control.app import ControlPlane

router = APIRouter(prefix="/api/v1/certificates", tags=["certificates"])

CanRead = Annotated[Access, needs(Permission.ROUTE_READ)]
CanManage = Annotated[Access, needs(Permission.DOMAIN_MANAGE)]


def _service(request: Request) -> CertificateService:
    service: CertificateService = request.app.state.control.certificates.service
    return service


@router.get("")
async def list_certificates(
    request: Request, access: CanRead, search: Annotated[str, Query(max_length=SEARCH_CHARACTERS)] = ""
) -> Page[CertificateOut]:
    """List the names that have or need a certificate, each with its state and the reason in words."""
    items = await _service(request).visible(access, search)
    return Page(items=items, total=len(items))


@router.post("", status_code=201)
async def upload_certificate(request: Request, access: CanManage, body: UploadRequest) -> UploadOut:
    """Serve a certificate of your own. Key, order of the chain, names and dates are checked; the key is sealed."""
    certificate, notes = await _service(request).upload(access, body.chain, body.key.get_secret_value())
    return UploadOut(certificate=certificate, notes=list(notes))


@router.get("/authority")
async def get_authority(request: Request, access: CanRead) -> AuthorityOut:
    """Show the server's own authority, for those who want to trust it while they develop."""
    control: ControlPlane = request.app.state.control
    material = control.tls.material
    if not material.authority_pem:
        raise not_found("certificate", "authority")
    return AuthorityOut(pem=material.authority_pem, fingerprint=material.fingerprint)


@router.get("/{certificate}")
async def get_certificate(request: Request, access: CanRead, certificate: str) -> CertificateOut:
    """Show one, by its name (a wildcard as `*.example.com`) or id."""
    return await _service(request).get(access, certificate)


@router.post("/{certificate}/renew", status_code=202)
async def renew_certificate(
    request: Request, access: CanManage, certificate: str, body: RenewRequest
) -> CertificateOut:
    """Look and ask again now, whatever was waited for. The answer is the state before; watch it change."""
    return await _service(request).renew(access, certificate, force=body.force)


@router.post("/{certificate}/revoke")
async def revoke_certificate(
    request: Request, access: CanManage, certificate: str, body: RevokeRequest
) -> CertificateOut:
    """Have the authority withdraw it, and stop serving it. A name that a route needs gets a new one at once."""
    return await _service(request).revoke(access, certificate, body.reason)


@router.delete("/{certificate}", status_code=204)
async def delete_certificate(request: Request, access: CanManage, certificate: str) -> Response:
    """Forget an uploaded certificate, or one that no route needs any more."""
    await _service(request).remove(access, certificate)
    return Response(status_code=204)
