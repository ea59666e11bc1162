"""REST routes of registries. Thin: permission, call, shape."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.listing import SEARCH_CHARACTERS, Page
from towline.control.registries.models import Registry
from towline.control.registries.schemas import Places, RegistryOut, RegistryPatch, RegistryRequest
from towline.control.registries.service import RegistryService

router = APIRouter(prefix="/api/v1/registries", tags=["registries"])

CanRead = Annotated[Access, needs(Permission.REGISTRY_READ)]
CanManage = Annotated[Access, needs(Permission.REGISTRY_MANAGE)]


def _service(request: Request) -> RegistryService:
    service: RegistryService = request.app.state.control.registries
    return service


@router.get("")
async def list_registries(
    request: Request, access: CanRead, search: Annotated[str, Query(max_length=SEARCH_CHARACTERS)] = ""
) -> Page[RegistryOut]:
    """List the registries that can be used somewhere in the caller's reach. Passwords are never shown."""
    items = [_shown(*each) for each in await _service(request).visible(access, search)]
    return Page(items=items, total=len(items))


@router.post("", status_code=201)
async def create_registry(request: Request, access: CanManage, body: RegistryRequest) -> RegistryOut:
    """Add credentials for a registry."""
    return _shown(*await _service(request).create(access, body))


@router.get("/{name}")
async def get_registry(request: Request, access: CanRead, name: str) -> RegistryOut:
    """Show one registry."""
    return _shown(*await _service(request).get(access, name))


@router.patch("/{name}")
async def change_registry(request: Request, access: CanManage, name: str, body: RegistryPatch) -> RegistryOut:
    """Change a registry. A new host needs the password again."""
    return _shown(*await _service(request).change(access, name, body))


@router.delete("/{name}", status_code=204)
async def delete_registry(request: Request, access: CanManage, name: str) -> Response:
    """Remove a registry. Deploys that name it are refused from then on."""
    await _service(request).delete(access, name)
    return Response(status_code=204)


def _shown(registry: Registry, places: Places) -> RegistryOut:
    return RegistryOut(
        id=registry.id,
        name=registry.name,
        host=registry.host,
        username=registry.username,
        places=places,
        created_at=registry.created_at,
        updated_at=registry.updated_at,
        password_changed_at=registry.password_changed_at,
    )
