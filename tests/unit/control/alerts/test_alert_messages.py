"""What is sent: bodies, signatures, subjects."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from towline.control.alerts import messages
from towline.control.alerts.models import Alert

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def alert(name: str = "edge-1", **changes: object) -> Alert:
    fields: dict[str, object] = {
        "id": f"alr_{name}", "org_id": "org_x", "rule": "agent_away", "subject": name, "name": name,
        "cluster_id": "clu_1", "cluster_name": "edge-1", "project": "", "namespace": "", "page": "/clusters/edge-1",
        "state": "firing", "severity": "critical", "summary": "no word since 03:00", "began_at": MOMENT,
        "fired_at": MOMENT, "resolved_at": None, "times": 2,
    }  # fmt: skip
    return Alert(**(fields | changes))


def body(kind: str = "firing", *alerts: Alert) -> str:
    return messages.body(
        "msg_1", kind, "org_x", "agent_away", alerts or (alert(),), origin="https://t.test", moment=MOMENT
    )


def test_a_body_names_what_fires_and_where_to_look() -> None:
    told = json.loads(body())
    assert (told["id"], told["type"], told["rule"], told["title"]) == (
        "msg_1", "alert.firing", "agent_away", "Agent away",
    )  # fmt: skip
    (one,) = told["alerts"]
    assert one["dedup_key"] == "alr_edge-1-2" and one["url"] == "https://t.test/clusters/edge-1"
    assert one["fired_at"] == "2026-01-02T03:04:05Z" and one["resolved_at"] is None


def test_a_body_lists_no_more_than_its_limit_and_counts_the_others() -> None:
    told = json.loads(body("firing", *(alert(f"edge-{n}") for n in range(messages.MOST_ALERTS + 7))))
    assert len(told["alerts"]) == messages.MOST_ALERTS and told["more"] == 7


def test_the_signature_is_over_the_moment_and_the_body() -> None:
    made = messages.headers("secret", "msg_1", MOMENT, b"{}")
    seconds = int(MOMENT.timestamp())
    digest = hmac.new(b"secret", f"{seconds}.{{}}".encode(), hashlib.sha256).hexdigest()
    assert made[messages.SIGNATURE_HEADER] == f"t={seconds},v1={digest}"
    assert made[messages.DELIVERY_HEADER] == "msg_1"


def test_a_mail_says_in_its_subject_what_it_is_about() -> None:
    mail = messages.mail(body(), sender="towline@example.com", recipients=["a@x.test", "b@x.test"], moment=MOMENT)
    assert mail["Subject"] == "[Towline] Agent away: edge-1"
    assert mail["To"] == "a@x.test, b@x.test" and mail["Message-ID"] == "<msg_1@example.com>"
    assert parsedate_to_datetime(mail["Date"]) == MOMENT
    assert "no word since 03:00" in mail.get_content()


def test_the_mail_of_many_counts_them_and_that_of_an_end_says_so() -> None:
    ended = [alert(f"edge-{n}", state="resolved", resolved_at=MOMENT) for n in range(3)]
    mail = messages.mail(body("resolved", *ended), sender="t@x.test", recipients=["a@x.test"], moment=MOMENT)
    assert mail["Subject"] == "[Towline] Resolved: Agent away: 3 of them"
    assert mail.get_content().count("resolved 2026-01-02T03:04:05Z") == 3


def test_a_name_with_line_breaks_adds_no_header() -> None:
    told = body("firing", alert(name="edge\r\nBcc: eve@x.test"))
    mail = messages.mail(told, sender="t@x.test", recipients=["a@x.test"], moment=MOMENT)
    assert mail["Bcc"] is None and "\n" not in str(mail["Subject"])


def test_a_test_message_says_that_it_is_one() -> None:
    told = messages.body("msg_1", "test", "org_x", "", (), origin="https://t.test", moment=MOMENT)
    mail = messages.mail(told, sender="t@x.test", recipients=["a@x.test"], moment=MOMENT)
    assert mail["Subject"] == "[Towline] Test message" and json.loads(told)["type"] == "alert.test"
