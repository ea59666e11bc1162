"""REST route of imports from InstaDeploy. Thin: permission, call, shape. InstaDeploy's own API is `rest`."""

from typing import Annotated

from fastapi import APIRouter, Request

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.protocols.instadeploy.feature import InstaDeploy
from towline.control.protocols.instadeploy.import_schemas import ImportReport, ImportRequest

router = APIRouter(prefix="/api/v1/compat/instadeploy", tags=["older agents"])


@router.post("/import")
async def import_instadeploy(
    request: Request, access: Annotated[Access, needs(Permission.JOIN_TOKEN_MANAGE)], body: ImportRequest
) -> ImportReport:
    """Take over agents, deployments and jobs of an InstaDeploy control plane; nothing is sent to any agent."""
    feature: InstaDeploy = request.app.state.control.protocols.instadeploy
    return await feature.importing.run(access, body)
