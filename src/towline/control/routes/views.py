"""Routes as the API shows them. No secrets: of passwords and headers for the target only the names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from towline.control.routes.schemas import ClusterGatewayOut, ClusterShown, RouteOut, TargetOut
from towline.control.routes.service import View
from towline.control.routes.sources import SourcesView
from towline.control.routes.states import RouteState
from towline.control.routes.targets import TargetInvalid, restored
from towline.control.routes.targets import shown as target_shown

if TYPE_CHECKING:
    from towline.control.routes.feature import Gateway


def shown(gateway: Gateway, view: View) -> RouteOut:
    """Return a route as the API shows it."""
    row = view.row
    lost = gateway.registry.lost_ports.get(row.id)
    return RouteOut(
        id=row.id,
        name=row.name,
        host=row.host,
        path=row.path,
        path_type=row.path_type,
        url=f"https://{row.host}{gateway.port_suffix()}{row.path}" if row.host else "",
        source=row.source,
        ref=row.ref or "",
        cluster=_cluster(view, row.cluster_id) if row.cluster_id else None,
        targets=[_target(gateway, view, one) for one in row.targets],
        options=dict(view.options),
        users=list(view.users),
        notes=row.notes,
        tls=row.tls,
        state=RouteState.CONFLICT if lost else row.state,
        reason=lost.reason(view.names) if lost else row.reason,
        enabled=row.enabled,
        existed=row.existed,
        decision=row.decision,
        decided_by=row.decided_by,
        leaving_at=row.leaving_at,
        created_at=row.created_at,
        created_by=row.created_by,
        changed_at=row.changed_at,
    )


def shown_sources(view: SourcesView) -> ClusterGatewayOut:
    """Return what a cluster may publish, as the API shows it."""
    row = view.row
    return ClusterGatewayOut.model_validate(
        {
            "existing": row.existing,
            "appearing": row.appearing,
            "watch_ingresses": row.watch_ingresses,
            "is_private": view.is_private,
            "told_at": row.told_at,
            "sources": row.baselines,
            "routes": view.routes,
            "left_out": row.left_out,
        }
    )


def _target(gateway: Gateway, view: View, one: dict[str, Any]) -> TargetOut:
    cluster_id = one["cluster_id"]
    try:
        to = target_shown(restored(one["target"]))
    except TargetInvalid as error:
        to = str(error)
    return TargetOut(cluster=_cluster(view, cluster_id), to=to, connected=gateway.is_connected(cluster_id))


def _cluster(view: View, cluster_id: str) -> ClusterShown:
    return ClusterShown(id=cluster_id, name=view.names.get(cluster_id, ""))
