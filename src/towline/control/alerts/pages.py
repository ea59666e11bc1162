"""Pages of alerts: what fires, the rules, the channels, the silences. Rules are the API's."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from towline.control import forms
from towline.control.access.dependencies import Access, Permission, Resource, needs
from towline.control.alerts import api
from towline.control.alerts.catalogue import RULES
from towline.control.alerts.schemas import ChannelIn, ChannelPatch, RulePatch, SilenceIn
from towline.control.errors import ApiError, ErrorCode
from towline.control.listing import ListQuery, list_query
from towline.control.web import Notice
from towline.control.web import query as with_query

router = APIRouter(include_in_schema=False)

Reader = Annotated[Access, needs(Permission.ALERT_READ)]
Silencer = Annotated[Access, needs(Permission.ALERT_SILENCE)]
Manager = Annotated[Access, needs(Permission.ALERT_MANAGE)]
TABS = (
    ("alerts", "/alerts", "Alerts"), ("rules", "/alerts/rules", "Rules"), ("channels", "/alerts/channels", "Channels"),
    ("silences", "/alerts/silences", "Silences"),
)  # fmt: skip
STATES = (("", "Firing and pending"), ("firing", "Firing"), ("pending", "Pending"), ("resolved", "Resolved"))
SPANS = (
    ("1800", "30 minutes"), ("7200", "2 hours"), ("28800", "8 hours"), ("86400", "1 day"), ("604800", "7 days"),
    ("2592000", "30 days"),
)  # fmt: skip
SHOWN_SILENCES = 20
WORST_FIRST = "-urgency"


@router.get("/alerts")
async def alerts_page(
    request: Request, access: Reader, asked: Annotated[ListQuery, Depends(list_query)], state: str = "", rule: str = "",
    cluster: str = "",
) -> Response:  # fmt: skip
    """Show what fires, and what is about to, the worst first."""
    filters = {
        "state": state if state in dict(STATES) else "", "rule": rule if rule in RULES else "", "cluster": cluster[:63],
        "search": asked.search,
    }  # fmt: skip
    wanted: dict[str, Any] = {"state": filters["state"], "rule": filters["rule"] or None, "cluster": filters["cluster"]}
    asked = asked if asked.sort else replace(asked, sort=WORST_FIRST)
    found = await api.list_alerts(request, access, asked, **wanted)
    return _page(
        request, access, "alerts", page=found.model_dump(), filters=filters, states=STATES, rules=RULES,
        page_url=with_query("/alerts", dict(filters)), is_filtered=any(filters.values()),
        has_channels=not _may(access, Permission.ALERT_MANAGE) or (await api.list_channels(request, access)).total > 0,
    )  # fmt: skip


@router.get("/alerts/rules")
async def rules_page(request: Request, access: Reader) -> Response:
    """Show which rules hold, and how."""
    channels = (await api.list_channels(request, access)).items if _may(access, Permission.ALERT_MANAGE) else []
    return _page(
        request, access, "rules", rules=(await api.list_rules(request, access)).items,
        channels=[one.name for one in channels],
    )  # fmt: skip


@router.post("/alerts/rules")
async def change_rule(request: Request, access: Manager) -> Response:
    """Save one rule; an empty field follows the usual."""
    form = await forms.read(request)

    async def action() -> None:
        after, clear, threshold = (form.line(name) for name in ("after_minutes", "clear_minutes", "threshold"))
        names = [name for name in form.all("channels") if name]
        body = forms.body(
            RulePatch, rule=form.line("rule"), enabled=form.checked("enabled"), severity=form.line("severity") or None,
            after_seconds=form.number("after_minutes", 0) * 60 if after else None,
            clear_seconds=form.number("clear_minutes", 0) * 60 if clear else None,
            threshold=form.number("threshold", 0) if threshold else None,
            channels=names if form.line("where") == "some" else None,
        )  # fmt: skip
        await api.change_rule(request, access, body)

    return await forms.act(request, "/alerts/rules", "the rule was saved", action)


@router.get("/alerts/channels")
async def channels_page(request: Request, access: Manager) -> Response:
    """Show where alerts go, and whether they arrive."""
    return await _channels(request, access)


@router.post("/alerts/channels")
async def add_channel(request: Request, access: Manager) -> Response:
    """Add a channel; the secret that was made for a webhook is shown on the page that follows, once."""
    form = await forms.read(request)
    try:
        body = forms.body(ChannelIn, name=form.line("name"), target=_target(form))
        made = await api.add_channel(request, access, body)
    except ApiError as error:
        typed = {name: form.line(name) for name in form.names() if name not in ("_csrf", "url", "secret", "password")}
        return await _channels(request, access, [Notice("error", error.message, error.hint)], typed=typed)
    done = Notice("done", f"{made.name} was added", "send a test to see that it works")
    return await _channels(request, access, [done], made_name=made.name, made_secret=made.secret)


@router.post("/alerts/channels/{channel}/{word}")
async def act_on_channel(request: Request, access: Manager, channel: str, word: str) -> Response:
    """Try a channel, switch it on or off, or remove it."""
    form = await forms.read(request)
    done = {"test": "the test message was sent", "on": f"{channel} is on", "off": f"{channel} is off"}

    async def action() -> None:
        if word == "test":
            tried = await api.test_channel(request, access, channel)
            if not tried.sent:
                raise ApiError(ErrorCode.UNAVAILABLE, f"the test message was not sent: {tried.error}")
        elif word in ("on", "off"):
            await api.change_channel(request, access, channel, ChannelPatch(enabled=word == "on"))
        elif word == "remove":
            if form.line("confirm") != channel:
                raise ApiError(ErrorCode.INVALID, f"type {channel} to remove it")
            await api.remove_channel(request, access, channel)
        else:
            raise ApiError(ErrorCode.NOT_FOUND, "there is no such action")

    return await forms.act(request, "/alerts/channels", done.get(word, f"{channel} was removed"), action)


@router.get("/alerts/silences")
async def silences_page(request: Request, access: Reader, cluster: str = "", rule: str = "") -> Response:
    """Show what is silenced, and offer to silence more."""
    choices = await request.app.state.control.fleet.clusters.choices(access, Permission.ALERT_SILENCE)
    return _page(
        request, access, "silences", silences=(await api.list_silences(request, access)).items, rules=RULES,
        spans=SPANS, clusters=[one.name for one in choices], chosen={"cluster": cluster[:63], "rule": rule[:40]},
    )  # fmt: skip


@router.post("/alerts/silences")
async def add_silence(request: Request, access: Silencer) -> Response:
    """Silence a cluster, a rule, or everything."""
    form = await forms.read(request)

    async def action() -> None:
        body = forms.body(
            SilenceIn, cluster=form.line("cluster"), rule=form.line("rule") or None,
            seconds=int(form.number("seconds", 7200)), reason=form.line("reason"),
        )  # fmt: skip
        await api.add_silence(request, access, body)

    return await forms.act(request, "/alerts/silences", "silenced", action)


@router.post("/alerts/silences/{silence}/end")
async def end_silence(request: Request, access: Silencer, silence: str) -> Response:
    """End a silence."""
    return await forms.act(
        request, "/alerts/silences", "the silence has ended", lambda: api.end_silence(request, access, silence)
    )


async def _channels(
    request: Request, access: Access, notices: Sequence[Notice] = (), *, typed: dict[str, str] | None = None,
    made_name: str = "", made_secret: str = "",
) -> Response:  # fmt: skip
    found = (await api.list_channels(request, access)).items
    page = _page(
        request, access, "channels", notices=notices, channels=found, typed=typed or {}, made_name=made_name,
        made_secret=made_secret,
    )  # fmt: skip
    if made_secret:
        page.headers["Cache-Control"] = "no-store"
    return page


def _page(request: Request, access: Access, tab: str, **context: Any) -> Response:
    may = {"manage": Permission.ALERT_MANAGE, "silence": Permission.ALERT_SILENCE}
    tabs = [one for one in TABS if one[0] != "channels" or _may(access, Permission.ALERT_MANAGE)]
    page: Response = request.app.state.control.web.page(
        request, f"alerts/{tab}.html", access=access, section="alerts", tabs=tabs, tab=tab,
        may={"manage": _may(access, may["manage"]), "silence": access.rights.gives(may["silence"])},
        silence_all=_may(access, may["silence"]), **context,
    )  # fmt: skip
    return page


def _may(access: Access, permission: Permission) -> bool:
    return access.may(permission, Resource(access.org_id))


def _target(form: forms.Form) -> dict[str, Any]:
    """Return the body of a target from the fields of its kind."""
    if form.line("kind") == "webhook":
        secret = form.line("secret")
        return {"kind": "webhook", "url": form.line("url"), **({"secret": secret} if secret else {})}
    names = form.line("recipients").replace(",", " ").split()
    return {
        "kind": "email", "host": form.line("host"), "port": int(form.number("port", 587)), "recipients": names,
        "security": form.line("security") or "starttls", "sender": form.line("sender"),
        "username": form.line("username"), "password": form.text("password"),
    }  # fmt: skip
