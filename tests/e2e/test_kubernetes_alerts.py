"""A pod of the real cluster that ends again and again is told by mail and by webhook, once, and so is its end."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support import kubernetes_objects as objects
from tests.support.alert_receivers import Hook, Mails, mailbox, webhook
from tests.support.kubernetes_stack import CLUSTER, Stack
from tests.testbed import kubectl
from tests.testbed.kubernetes.cluster import Cluster

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(240)]

NAMESPACE = "k9-alerts"
TOLD = 90.0
"""Seconds until a pod is in the state: the kubelet waits ten before it says so, and a busy machine is slow."""


@pytest.fixture
def stack(tmp_path: Path) -> Any:
    """A control plane of its own: what it tells is what it alone was told to."""
    settings = {"OUTGOING_NETWORKS": "127.0.0.0/8", "ALERT_GROUP_SECONDS": "0"}
    with Stack(tmp_path, Cluster(), kubectl.ensure(), namespace="k9-agent", settings=settings) as running:
        yield running


async def test_a_crash_loop_is_told_once_by_mail_and_webhook_and_so_is_its_end(stack: Stack) -> None:
    async with webhook() as hook, mailbox() as mails:
        with stack.http(stack.owner.token) as api, stack.empty_namespace(NAMESPACE):
            prepare(api, hook, mails)
            objects.apply(stack.direct(), NAMESPACE, objects.pod("flapping", "sh", "-c", "exit 1"))
            posted, mail = await of_ours(hook, "alert.firing"), await mail_of(mails, "Crash loop")
            (alert,) = api.get("/api/v1/alerts", params={"rule": "crash_loop", "search": "flapping"}).json()["items"]
            assert posted["name"] == alert["name"]
            assert (alert["state"], alert["namespace"], alert["cluster"]) == ("firing", NAMESPACE, CLUSTER)
            assert "CrashLoopBackOff" in alert["summary"] and "CrashLoopBackOff" in str(mail)
            assert api.patch("/api/v1/alert-rules", json={"rule": "crash_loop", "enabled": False}).status_code == 200
            await of_ours(hook, "alert.resolved")
            await mail_of(mails, "Resolved: Crash loop")
            assert hook.got.empty() and mails.got.empty()


def prepare(api: httpx.Client, hook: Hook, mails: Mails) -> None:
    """Have a crash loop alone told, at once, to both receivers."""
    mail = {
        "kind": "email", "host": "127.0.0.1", "port": mails.port, "security": "none", "sender": "towline@example.com",
        "recipients": ["ops@example.com"],
    }  # fmt: skip
    for name, target in (("hook", {"kind": "webhook", "url": hook.url}), ("mail", mail)):
        assert api.post("/api/v1/alert-channels", json={"name": name, "target": target}).status_code == 201
    for rule in api.get("/api/v1/alert-rules").json()["items"]:
        wanted = {"after_seconds": 0} if rule["rule"] == "crash_loop" else {"enabled": False}
        assert api.patch("/api/v1/alert-rules", json={"rule": rule["rule"], **wanted}).status_code == 200


async def of_ours(hook: Hook, kind: str) -> dict[str, Any]:
    """The alert of our pod in the next message of a kind; other tests' pods may be unwell too."""
    async with asyncio.timeout(TOLD):
        while True:
            posted = (await hook.got.get()).json
            assert posted["type"] == kind
            for one in posted["alerts"]:
                if "flapping" in one["name"]:
                    return dict(one)


async def mail_of(mails: Mails, words: str) -> Any:
    """The text of the next mail about our pod."""
    async with asyncio.timeout(TOLD):
        while True:
            mail = await mails.got.get()
            assert words in mail["Subject"]
            body = mail.get_body(("plain",))
            if body is not None and "flapping" in body.get_content():
                return body.get_content()
