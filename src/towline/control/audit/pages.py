"""The page of the audit log."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.audit.api import list_events
from towline.control.listing import ListQuery, list_query
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)


@router.get("/audit")
async def audit_page(
    request: Request,
    access: Annotated[Access, needs(Permission.AUDIT_READ)],
    query: Annotated[ListQuery, Depends(list_query)],
    actor: str = "",
    action: str = "",
    result: str = "",
) -> Response:
    """Show who did what, and what was refused."""
    filters = {"actor": actor, "action": action, "result": result}
    begins = f"{action.rstrip('*')}*" if action else ""
    found = await list_events(request, access, query, actor=actor, action=begins, result=result)
    page: Response = request.app.state.control.web.page(
        request, "audit/audit.html", access=access, section="audit", filters=filters,
        page=found.model_dump(), page_url=with_query("/audit", dict(filters)),
    )  # fmt: skip
    return page
