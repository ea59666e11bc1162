"""Alerts by the API: who may do what, rules, channels whose secrets never come out, silences."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support import seeds
from tests.support.control_app import ControlApp, running_control

from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.alerts.models import Alert, AlertChannel
from towline.control.audit.models import AuditEvent
from towline.control.clusters.models import Cluster
from towline.control.ids import new_id

WEBHOOK = {"kind": "webhook", "url": "https://hooks.example.com/services/very-secret-path"}
EMAIL = {
    "kind": "email", "host": "mail.example.com", "sender": "towline@example.com", "recipients": ["ops@example.com"],
    "username": "towline", "password": "the-password-of-the-mail-server",
}  # fmt: skip
CALLS: tuple[tuple[str, str, Any], ...] = (
    ("GET", "alerts", None), ("GET", "alerts/x", None), ("GET", "alert-rules", None),
    ("PATCH", "alert-rules", {"rule": "crash_loop"}), ("GET", "alert-channels", None),
    ("POST", "alert-channels", {"name": "x", "target": WEBHOOK}), ("GET", "alert-channels/x", None),
    ("PATCH", "alert-channels/x", {}), ("DELETE", "alert-channels/x", None), ("POST", "alert-channels/x/test", None),
    ("GET", "alert-silences", None), ("POST", "alert-silences", {"seconds": 60, "reason": "x"}),
    ("DELETE", "alert-silences/x", None),
)  # fmt: skip


@pytest.fixture
async def control_app(database_url: str, tmp_path: Path) -> AsyncIterator[ControlApp]:
    """A control plane without loops: they would end alerts that are in a table alone."""
    async with running_control(database_url, tmp_path, start=False) as app:
        yield app


async def alert(app: ControlApp, cluster: str = "edge-1", **changes: Any) -> str:
    """A firing alert about a cluster of the seeds."""
    async with app.control.db.begin() as tx:
        row = await tx.scalar(select(Cluster).where(Cluster.name == cluster))
        moment = await tx.now()
        fields: dict[str, Any] = {
            "id": new_id("alr"), "org_id": app.control.default_org, "rule": "crash_loop", "subject": new_id("evt"),
            "name": cluster, "cluster_id": row.id if row else "", "cluster_name": cluster if row else "",
            "state": "firing", "severity": "warning", "summary": "it crashes", "began_at": moment,
            "fired_at": moment, "changed_at": moment, "times": 1,
        }  # fmt: skip
        made = Alert(**(fields | changes))
        tx.add(made)
    return made.id


async def test_nobody_without_a_token_gets_anywhere(control_app: ControlApp) -> None:
    client = control_app.client()
    for method, path, body in CALLS:
        assert (await client.request(method, f"/api/v1/{path}", json=body)).status_code == 401, path


async def test_roles_read_silence_and_manage_in_this_order(small_app: ControlApp) -> None:
    viewer, operator = await small_app.user("vera", Role.VIEWER), await small_app.user("otto", Role.OPERATOR)
    silence = {"seconds": 60, "reason": "x"}
    for path in ("alerts", "alert-rules", "alert-silences"):
        assert (await viewer.get(f"/api/v1/{path}")).status_code == 200
    assert (await viewer.get("/api/v1/alert-channels")).status_code == 403
    assert (await viewer.post("/api/v1/alert-silences", json=silence)).status_code == 403
    assert (await operator.post("/api/v1/alert-silences", json=silence)).status_code == 201
    assert (await operator.patch("/api/v1/alert-rules", json={"rule": "crash_loop"})).status_code == 403


async def test_a_grant_shows_the_alerts_of_its_place_alone(control_app: ControlApp) -> None:
    await seeds.three(control_app.control)
    await alert(control_app, "edge-1")
    await alert(control_app, "edge-1", namespace="shop", name="edge-1/shop/web")
    await alert(control_app, "edge-2", project="shop", name="edge-2/shop")
    await alert(control_app, "a certificate", rule="certificate_ending")
    clusters = {row.name: row.id for row in await control_app.rows(Cluster)}
    here = await control_app.user("cleo", Role.OPERATOR, reach=Reach(ScopeKind.CLUSTER, cluster_id=clusters["edge-1"]))
    space = await control_app.user("nina", Role.VIEWER, reach=Reach(ScopeKind.NAMESPACE, namespace="shop"))
    project = await control_app.user("paul", Role.VIEWER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    everywhere = await control_app.user("ada", Role.VIEWER)

    async def names(client: Any) -> list[str]:
        return sorted(one["name"] for one in (await client.get("/api/v1/alerts")).json()["items"])

    assert await names(here) == ["edge-1", "edge-1/shop/web"]
    assert await names(space) == ["edge-1/shop/web"] and await names(project) == ["edge-2/shop"]
    assert len(await names(everywhere)) == 4
    await control_app.control.alerts.board.refresh()
    assert ">2<span" in (await here.get("/alerts")).text and ">1<span" in (await space.get("/alerts")).text
    assert (await here.post("/api/v1/alert-silences", json={"seconds": 60, "reason": "x"})).status_code == 403
    made = await here.post("/api/v1/alert-silences", json={"seconds": 60, "reason": "x", "cluster": "edge-1"})
    assert made.status_code == 201
    other = {"seconds": 60, "reason": "x", "cluster": "edge-2"}
    assert (await here.post("/api/v1/alert-silences", json=other)).status_code == 404


async def test_alerts_are_filtered_and_shown_one_by_one(control_app: ControlApp) -> None:
    await seeds.three(control_app.control)
    ada = await control_app.user("ada", Role.VIEWER)
    one = await alert(control_app, "edge-1")
    await alert(control_app, "edge-2", rule="agent_away", state="pending", severity="critical")
    await alert(control_app, "edge-2", state="resolved")

    async def found(query: str) -> list[tuple[str, str]]:
        answer = await ada.get(f"/api/v1/alerts?{query}")
        assert answer.status_code == 200, answer.text
        return sorted((item["name"], item["state"]) for item in answer.json()["items"])

    assert await found("") == [("edge-1", "firing"), ("edge-2", "pending")]
    assert await found("state=resolved") == [("edge-2", "resolved")]
    assert await found("rule=agent_away") == [("edge-2", "pending")]
    assert await found("cluster=edge-1") == [("edge-1", "firing")]
    assert await found("search=IT+CRASHES&state=firing") == [("edge-1", "firing")]
    shown = (await ada.get(f"/api/v1/alerts/{one}")).json()
    assert (shown["title"], shown["cluster"], shown["silenced"]) == ("Crash loop", "edge-1", False)
    assert (await ada.get("/api/v1/alerts/alr_none")).status_code == 404
    assert (await ada.get("/api/v1/alerts?rule=nonsense")).status_code == 422


async def test_the_worst_comes_first_then_what_fires_then_the_newest(control_app: ControlApp) -> None:
    await seeds.three(control_app.control)
    ada = await control_app.user("ada", Role.VIEWER)
    now = datetime.now(UTC)
    for name, severity, state, minutes in (
        ("old", "warning", "firing", 50), ("waits", "critical", "pending", 40), ("grave", "critical", "firing", 30),
        ("graver", "critical", "firing", 20), ("new", "warning", "firing", 10), ("soon", "warning", "pending", 0),
    ):  # fmt: skip
        moment = now - timedelta(minutes=minutes)
        await alert(control_app, name, severity=severity, state=state, changed_at=moment)
    expected = ["graver", "grave", "waits", "new", "old", "soon"]
    found, cursor = [], ""
    while len(found) < len(expected):
        answer = await ada.get("/api/v1/alerts", params={"sort": "-urgency", "limit": 2, "cursor": cursor})
        found += [one["name"] for one in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
    assert (found, cursor) == (expected, None)
    page = (await ada.get("/alerts")).text
    assert sorted(expected, key=lambda name: page.index(f">{name}</a>")) == expected


async def test_a_rule_is_changed_and_follows_the_usual_again(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    await ada.post("/api/v1/alert-channels", json={"name": "ops", "target": WEBHOOK})
    change = {
        "rule": "disk_full",
        "after_seconds": 5,
        "clear_seconds": 7,
        "threshold": 20,
        "severity": "critical",
        "channels": ["ops"],
    }
    answer = await ada.patch("/api/v1/alert-rules", json=change)
    assert answer.status_code == 200, answer.text
    assert answer.json() | change == answer.json() and answer.json()["changed"]
    answer = await ada.patch("/api/v1/alert-rules", json={"rule": "disk_full", "threshold": None, "channels": None})
    assert (answer.json()["threshold"], answer.json()["channels"], answer.json()["after_seconds"]) == (10, None, 5)
    rules = {one["rule"]: one for one in (await ada.get("/api/v1/alert-rules")).json()["items"]}
    assert len(rules) == 10 and rules["disk_full"]["severity"] == "critical" and not rules["crash_loop"]["changed"]
    eve = await control_app.user("eve", Role.OWNER, org_id=await control_app.org("other"))
    theirs = {one["rule"]: one for one in (await eve.get("/api/v1/alert-rules")).json()["items"]}
    assert not theirs["disk_full"]["changed"]
    actions = [event.action for event in await control_app.rows(AuditEvent)]
    assert actions.count("alert_rule.change") == 2


@pytest.mark.parametrize(
    "body",
    [
        {"rule": "nonsense"}, {"rule": "node_not_ready", "threshold": 5}, {"rule": "disk_full", "threshold": 99},
        {"rule": "crash_loop", "clear_seconds": 601}, {"rule": "crash_loop", "after_seconds": -1},
        {"rule": "crash_loop", "channels": ["unknown"]},
        {"rule": "crash_loop", "colour": "red"}, {"rule": "crash_loop", "severity": "awful"},
    ],
)  # fmt: skip
async def test_a_change_of_a_rule_that_makes_no_sense_is_refused(small_app: ControlApp, body: dict[str, Any]) -> None:
    ada = await small_app.user("ada", Role.ADMIN)
    assert (await ada.patch("/api/v1/alert-rules", json=body)).status_code == 422


async def test_a_channel_never_gives_its_secrets_away(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    made = await ada.post("/api/v1/alert-channels", json={"name": "hook", "target": WEBHOOK})
    assert made.status_code == 201 and made.json()["secret"].startswith("tww_")
    assert made.json()["target"] == "https://hooks.example.com/…"
    mail = await ada.post("/api/v1/alert-channels", json={"name": "mail", "target": EMAIL})
    assert mail.json()["secret"] == "" and mail.json()["signs_in"] and mail.json()["port"] == 587
    given = {**WEBHOOK, "secret": "a-secret-of-our-own"}
    changed = await ada.patch("/api/v1/alert-channels/hook", json={"target": given, "name": "hook2"})
    assert changed.status_code == 200 and changed.json()["secret"] == ""
    texts = [(await ada.get(path)).text for path in ("/api/v1/alert-channels", "/alerts/channels", "/api/v1/audit")]
    rows = str([vars(row) for table in (AlertChannel, AuditEvent) for row in await control_app.rows(table)])
    for secret in ("very-secret-path", "the-password", "a-secret-of-our-own", made.json()["secret"]):
        assert not any(secret in text for text in (*texts, rows)), secret
    assert (await ada.post("/api/v1/alert-channels", json={"name": "mail", "target": EMAIL})).status_code == 409
    assert (await ada.delete("/api/v1/alert-channels/mail")).status_code == 204
    assert [one["name"] for one in (await ada.get("/api/v1/alert-channels")).json()["items"]] == ["hook2"]


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "pigeon"}, {"kind": "webhook", "url": "ftp://x.example/path"}, {"kind": "webhook", "url": "https:///x"},
        {"kind": "webhook", "url": "https://x.example:99999/"}, {**WEBHOOK, "secret": "short"}, {**EMAIL, "port": 0},
        {**EMAIL, "recipients": []}, {**EMAIL, "recipients": ["a@x\r\nBcc: b@x"]}, {**EMAIL, "sender": "nobody"},
        {**EMAIL, "security": "rot13"}, {**EMAIL, "username": "a\nb"},
    ],
)  # fmt: skip
async def test_a_channel_that_makes_no_sense_is_refused_without_its_secrets(
    small_app: ControlApp, target: dict[str, Any]
) -> None:
    ada = await small_app.user("ada", Role.ADMIN)
    answer = await ada.post("/api/v1/alert-channels", json={"name": "x", "target": target})
    assert answer.status_code == 422 and "the-password" not in answer.text and "very-secret" not in answer.text


async def test_a_private_address_is_refused_in_words_when_it_is_tried(control_app: ControlApp) -> None:
    ada = await control_app.user("ada", Role.ADMIN)
    for name, url in (("loop", "http://127.0.0.1:1/x"), ("cloud", "http://169.254.169.254/latest/meta-data")):
        await ada.post("/api/v1/alert-channels", json={"name": name, "target": {"kind": "webhook", "url": url}})
        tried = (await ada.post(f"/api/v1/alert-channels/{name}/test")).json()
        assert not tried["sent"] and "outgoing_networks" in tried["error"]
    (shown, _) = (await ada.get("/api/v1/alert-channels")).json()["items"]
    assert "outgoing_networks" in shown["error"] and shown["failing_at"]


async def test_a_silence_says_who_and_why_and_ends_when_it_is_told_to(control_app: ControlApp) -> None:
    await seeds.three(control_app.control)
    ada = await control_app.user("ada", Role.OPERATOR)
    body = {"cluster": "edge-1", "rule": "crash_loop", "seconds": 7200, "reason": "new disks"}
    made = (await ada.post("/api/v1/alert-silences", json=body)).json()
    assert (made["cluster"], made["rule"], made["created_by"]) == ("edge-1", "crash_loop", "ada")
    one = await alert(control_app, "edge-1")
    assert (await ada.get(f"/api/v1/alerts/{one}")).json()["silenced"]
    assert "new disks" in (await ada.get("/alerts/silences")).text
    assert (await ada.delete(f"/api/v1/alert-silences/{made['id']}")).status_code == 204
    assert (await ada.delete(f"/api/v1/alert-silences/{made['id']}")).status_code == 404
    assert not (await ada.get(f"/api/v1/alerts/{one}")).json()["silenced"]
    actions = [event.action for event in await control_app.rows(AuditEvent)]
    assert actions.count("alert_silence.add") == 1 and actions.count("alert_silence.end") == 1
    for wrong in ({"seconds": 5}, {"seconds": 10**9}, {"reason": " "}, {"cluster": "nowhere"}):
        assert (await ada.post("/api/v1/alert-silences", json=body | wrong)).status_code in (404, 422), wrong


async def test_pages_show_what_the_api_says_and_change_it(control_app: ControlApp) -> None:
    await seeds.three(control_app.control)
    await alert(control_app, "edge-1", summary="<b>it</b> crashes")
    ada = await control_app.user("ada", Role.ADMIN)
    page = (await ada.get("/alerts")).text
    assert "&lt;b&gt;it&lt;/b&gt; crashes" in page and "Nobody is told yet" in page
    form = {"kind": "webhook", "name": "hook", "url": WEBHOOK["url"]}
    answer = await ada.post("/alerts/channels", data=form)
    made = answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert "The secret of hook" in made and "tww_" in made and "very-secret-path" not in made
    again = (await ada.post("/alerts/channels", data=form)).text
    assert "a channel named hook exists already" in again and "tww_" not in again
    rule = {"rule": "disk_full", "after_minutes": "3", "threshold": "20", "severity": "critical", "where": "some"}
    assert (await ada.post("/alerts/rules", data=rule | {"channels": "hook"})).status_code == 303
    changed = next(one for one in (await ada.get("/api/v1/alert-rules")).json()["items"] if one["rule"] == "disk_full")
    assert (changed["enabled"], changed["after_seconds"], changed["channels"]) == (False, 180, ["hook"])
    silence = {"cluster": "edge-1", "rule": "", "seconds": "7200", "reason": "work"}
    assert (await ada.post("/alerts/silences", data=silence)).status_code == 303
    assert "silenced" in (await ada.get("/alerts")).text
    assert (await ada.post("/alerts/channels/hook/off", data={})).status_code == 303
    assert ">Off<" in (await ada.get("/alerts/channels")).text
    assert (await ada.post("/alerts/channels/hook/remove", data={"confirm": "hook"})).status_code == 303
    assert (await ada.get("/api/v1/alert-channels")).json()["total"] == 0
    for path in ("rules", "channels", "silences"):
        assert (await ada.get(f"/alerts/{path}")).status_code == 200
    vera = await control_app.user("vera", Role.VIEWER)
    assert (await vera.get("/alerts/channels", headers={"accept": "text/html"})).status_code == 403
    assert "Change…" not in (await vera.get("/alerts/rules")).text
