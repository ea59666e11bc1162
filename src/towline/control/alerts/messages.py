"""What is sent: the JSON of a webhook, its signature, and a mail with the same content. Pure.

The body is made once and kept: each try sends the same bytes, so a receiver can tell by `id` what it has had.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Any

from towline.control.alerts.catalogue import RULES, RuleName
from towline.control.alerts.models import Alert

MOST_ALERTS = 50
"""Alerts that one message lists; of the others it says how many there are."""
DELIVERY_HEADER, SIGNATURE_HEADER = "Towline-Delivery", "Towline-Signature"
TEST = "test"


def body(
    message_id: str, kind: str, org_id: str, rule: str, alerts: Sequence[Alert], *, origin: str, moment: datetime
) -> str:
    """Return the JSON of one message. Args: kind: firing, resolved or test. origin: of the dashboard."""
    return json.dumps(
        {
            "id": message_id, "type": f"alert.{kind}", "organisation_id": org_id, "at": _time(moment), "rule": rule,
            "title": RULES[RuleName(rule)].title if rule else "Test", "url": f"{origin}/alerts",
            "alerts": [shown(one, origin) for one in alerts[:MOST_ALERTS]], "more": max(0, len(alerts) - MOST_ALERTS),
        },
        ensure_ascii=False, separators=(",", ":"),
    )  # fmt: skip


def shown(alert: Alert, origin: str) -> dict[str, Any]:
    """Return one alert of a message. `dedup_key` is the same while it fires and when it ends, another next time."""
    return {
        "id": alert.id, "dedup_key": f"{alert.id}-{alert.times}", "state": alert.state, "severity": alert.severity,
        "name": alert.name, "cluster": alert.cluster_name, "cluster_id": alert.cluster_id, "project": alert.project,
        "namespace": alert.namespace, "summary": alert.summary, "began_at": _time(alert.began_at),
        "fired_at": _time(alert.fired_at), "resolved_at": _time(alert.resolved_at), "url": f"{origin}{alert.page}",
    }  # fmt: skip


def signature(secret: str, moment: datetime, content: bytes) -> str:
    """Return the value of the signature header: `t=SECONDS,v1=HEX`, HMAC-SHA256 over `SECONDS.BODY`."""
    seconds = str(int(moment.timestamp()))
    digest = hmac.new(secret.encode(), seconds.encode() + b"." + content, hashlib.sha256)
    return f"t={seconds},v1={digest.hexdigest()}"


def headers(secret: str, message_id: str, moment: datetime, content: bytes) -> dict[str, str]:
    """Return what goes with the body of a webhook."""
    return {
        "Content-Type": "application/json", "User-Agent": "towline", DELIVERY_HEADER: message_id,
        SIGNATURE_HEADER: signature(secret, moment, content),
    }  # fmt: skip


def mail(content: str, *, sender: str, recipients: Sequence[str], moment: datetime) -> EmailMessage:
    """Return the mail of a message."""
    told = json.loads(content)
    made = EmailMessage()
    made["Subject"] = subject(told)
    made["From"] = sender
    made["To"] = ", ".join(recipients)
    made["Date"] = format_datetime(moment.astimezone(UTC))
    made["Message-ID"] = f"<{told['id']}@{sender.rpartition('@')[2].strip('<> ') or 'towline'}>"
    made["Auto-Submitted"] = "auto-generated"
    made.set_content(text(told))
    return made


def subject(told: Mapping[str, Any]) -> str:
    """Return a line that says what it is about, and whether it is over."""
    alerts, kind = told["alerts"], told["type"].removeprefix("alert.")
    if kind == TEST:
        return "[Towline] Test message"
    count = len(alerts) + told["more"]
    about = alerts[0]["name"] if count == 1 else f"{count} of them"
    over = "Resolved: " if kind == "resolved" else ""
    return " ".join(f"[Towline] {over}{told['title']}: {about}".split())


def text(told: Mapping[str, Any]) -> str:
    """Return the text of a mail."""
    if told["type"] == f"alert.{TEST}":
        return f"This channel works. Alerts of Towline will come this way.\n\n{told['url']}\n"
    lines = []
    for one in told["alerts"]:
        lines += [f"{one['name']} ({one['severity']})", f"  {one['summary']}", f"  since {one['began_at']}"]
        lines += [f"  resolved {one['resolved_at']}"] if one["state"] == "resolved" else []
        lines += [f"  {one['url']}", ""]
    if told["more"]:
        lines += [f"and {told['more']} more", ""]
    return "\n".join([*lines, f"All alerts: {told['url']}", ""])


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
