"""REST routes of alerts, their rules, channels and silences. Thin: permission, call, shape."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from towline.control.access.dependencies import Access, Permission, needs
from towline.control.alerts.catalogue import RULES, RuleName
from towline.control.alerts.channels import Channels
from towline.control.alerts.models import AlertChannel, AlertSilence
from towline.control.alerts.schemas import (
    AlertOut,
    ChannelIn,
    ChannelMade,
    ChannelOut,
    ChannelPatch,
    RuleOut,
    RulePatch,
    SilenceIn,
    SilenceOut,
    TestOut,
)
from towline.control.alerts.service import Alerts, RuleView, View
from towline.control.alerts.states import State
from towline.control.listing import ListQuery, Page, list_query, page

router = APIRouter(prefix="/api/v1", tags=["alerts"])

Reader = Annotated[Access, needs(Permission.ALERT_READ)]
Silencer = Annotated[Access, needs(Permission.ALERT_SILENCE)]
Manager = Annotated[Access, needs(Permission.ALERT_MANAGE)]
Asked = Annotated[ListQuery, Depends(list_query)]
StateWord = Literal["", "pending", "firing", "resolved"]
LIVE = (State.FIRING, State.PENDING)
_SHOWN = (
    "id", "state", "name", "summary", "cluster_id", "project", "namespace", "page", "began_at", "fired_at",
    "resolved_at", "times",
)  # fmt: skip


def alerts_of(request: Request) -> Alerts:
    service: Alerts = request.app.state.control.alerts.service
    return service


def channels_of(request: Request) -> Channels:
    service: Channels = request.app.state.control.alerts.channels
    return service


@router.get("/alerts")
async def list_alerts(
    request: Request,
    access: Reader,
    asked: Asked,
    state: Annotated[StateWord, Query(description="Empty: what fires or is about to.")] = "",
    rule: RuleName | None = None,
    cluster: Annotated[str, Query(max_length=63, description="Name or id.")] = "",
) -> Page[AlertOut]:
    """List alerts about what the caller may see, the newest change first; with `sort=-urgency` the worst first."""
    states = (State(state),) if state else LIVE
    found = await alerts_of(request).page(access, asked, states=states, rule=str(rule or ""), cluster=cluster)
    return page(found, shown)


@router.get("/alerts/{alert}")
async def get_alert(request: Request, access: Reader, alert: str) -> AlertOut:
    """Show one alert."""
    return shown(await alerts_of(request).get(access, alert))


@router.get("/alert-rules")
async def list_rules(request: Request, access: Reader) -> Page[RuleOut]:
    """List the rules as they hold for the organisation."""
    items = [rule_shown(one) for one in await alerts_of(request).rules(access)]
    return Page(items=items, total=len(items))


@router.patch("/alert-rules")
async def change_rule(request: Request, access: Manager, body: RulePatch) -> RuleOut:
    """Change one rule, which the body names."""
    return rule_shown(await alerts_of(request).change_rule(access, body))


@router.get("/alert-channels")
async def list_channels(request: Request, access: Manager) -> Page[ChannelOut]:
    """List where alerts go, and how that works at present."""
    items = [ChannelOut(**channel_fields(*one)) for one in await channels_of(request).all(access)]
    return Page(items=items, total=len(items))


@router.post("/alert-channels", status_code=201)
async def add_channel(request: Request, access: Manager, body: ChannelIn) -> ChannelMade:
    """Add a channel. A secret that was made for a webhook is in this answer and nowhere else."""
    row, secret = await channels_of(request).add(access, body)
    return ChannelMade(**channel_fields(row, 0), secret=secret)


@router.get("/alert-channels/{channel}")
async def get_channel(request: Request, access: Manager, channel: str) -> ChannelOut:
    """Show one channel, by name or id."""
    return ChannelOut(**channel_fields(*await channels_of(request).get(access, channel)))


@router.patch("/alert-channels/{channel}")
async def change_channel(request: Request, access: Manager, channel: str, body: ChannelPatch) -> ChannelMade:
    """Change a channel. A new target needs all of it again, secrets included."""
    row, secret = await channels_of(request).change(access, channel, body)
    waiting = (await channels_of(request).get(access, row.id))[1]
    return ChannelMade(**channel_fields(row, waiting), secret=secret)


@router.delete("/alert-channels/{channel}", status_code=204)
async def remove_channel(request: Request, access: Manager, channel: str) -> Response:
    """Remove a channel, and what waits for it."""
    await channels_of(request).remove(access, channel)
    return Response(status_code=204)


@router.post("/alert-channels/{channel}/test")
async def test_channel(request: Request, access: Manager, channel: str) -> TestOut:
    """Send a test message now, and say whether it arrived."""
    why = await channels_of(request).test(access, channel)
    return TestOut(sent=not why, error=why)


@router.get("/alert-silences")
async def list_silences(request: Request, access: Reader) -> Page[SilenceOut]:
    """List the silences that hold now."""
    items = [silence_shown(one) for one in await alerts_of(request).silences(access)]
    return Page(items=items, total=len(items))


@router.post("/alert-silences", status_code=201)
async def add_silence(request: Request, access: Silencer, body: SilenceIn) -> SilenceOut:
    """Tell nothing of a cluster, of a rule, of both, or of anything, for some time."""
    return silence_shown(await alerts_of(request).silence(access, body))


@router.delete("/alert-silences/{silence}", status_code=204)
async def end_silence(request: Request, access: Silencer, silence: str) -> Response:
    """End a silence. What it held back and still fires is told."""
    await alerts_of(request).end_silence(access, silence)
    return Response(status_code=204)


def shown(view: View) -> AlertOut:
    """Return the JSON of an alert."""
    row = view.row
    rule = RULES[RuleName(row.rule)]
    fields = {name: getattr(row, name) for name in _SHOWN}
    return AlertOut.model_validate(
        fields
        | {
            "rule": rule.name, "title": rule.title, "severity": row.severity, "cluster": row.cluster_name,
            "silenced": view.silenced, "told": bool(row.told),
        }
    )  # fmt: skip


def rule_shown(view: RuleView) -> RuleOut:
    """Return the JSON of a rule."""
    rule = view.rule
    return RuleOut(
        rule=rule.name, title=rule.title, meaning=rule.meaning, enabled=rule.enabled, severity=rule.severity,
        after_seconds=rule.after_seconds, clear_seconds=rule.clear_seconds, longest_clear_seconds=rule.longest_clear,
        threshold=rule.value if rule.threshold else None, threshold_word=rule.threshold.word if rule.threshold else "",
        channels=view.channels, changed=view.changed,
    )  # fmt: skip


def channel_fields(row: AlertChannel, waiting: int) -> dict[str, object]:
    """Return what the JSON of a channel holds."""
    return {
        **row.shown, "id": row.id, "name": row.name, "kind": row.kind, "enabled": row.enabled, "waiting": waiting,
        "sent_at": row.sent_at, "failing_at": row.failing_at, "error": row.error, "created_by": row.created_by,
        "created_at": row.created_at,
    }  # fmt: skip


def silence_shown(row: AlertSilence) -> SilenceOut:
    """Return the JSON of a silence."""
    return SilenceOut(
        id=row.id, cluster=row.cluster_name, cluster_id=row.cluster_id, rule=row.rule, reason=row.reason,
        created_by=row.created_by, created_at=row.created_at, ends_at=row.ends_at,
    )  # fmt: skip
