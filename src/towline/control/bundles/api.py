"""REST route of bundles: a raw tar in, its digest out."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.bundles.service import MAX_UPLOAD_BYTES, BundleService
from towline.control.errors import ApiError, ErrorCode

router = APIRouter(prefix="/api/v1/bundles", tags=["deployments"])

FRAMEWORK_BYTES = 2 * MAX_UPLOAD_BYTES
"""The framework's own limit lies behind ours: its answer is no JSON and says less."""


class BundleOut(BaseModel):
    digest: str
    """Name it in a revision."""
    size: int
    files: int


@router.put(
    "",
    status_code=201,
    max_body_size=FRAMEWORK_BYTES,
    openapi_extra={
        "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    },
)
async def put_bundle(request: Request, access: Annotated[Access, needs(Permission.DEPLOYMENT_WRITE)]) -> BundleOut:
    """Store the files beside a Compose file: an uncompressed tar, 32 MiB at most. Repeating it changes nothing."""
    service: BundleService = request.app.state.control.bundles
    bundle = await service.store(access, lambda: _body(request))
    return BundleOut(digest=bundle.digest, size=bundle.size, files=len(bundle.files))


async def _body(request: Request) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > MAX_UPLOAD_BYTES:
        raise _too_large()
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_UPLOAD_BYTES:
            raise _too_large()
    return bytes(body)


def _too_large() -> ApiError:
    return ApiError(ErrorCode.TOO_LARGE, f"a bundle may have {MAX_UPLOAD_BYTES} bytes as a tar")
