"""Conformance 12 to 17: what changes objects. Plain writes and their refusals stand in the differential table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pytest
from tests.support import differential
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_stack import Stack, User
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

MEBIBYTE = 1024 * 1024
CHART = {
    "Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    "values.yaml": "replicas: 1\nnote: first\n",
    "templates/all.yaml": """\
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .Release.Name }}-note"}
data: {note: "{{ .Values.note }}"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: "{{ .Release.Name }}"}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: main, image: "localhost/busybox:1", imagePullPolicy: Never, command: [sh, -c, "exec sleep 100000"]}
""",
}


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    with stack.empty_namespace("k8-writes") as name:
        yield name


# 12: that kubectl's create is the binary one, which nobody may look into
@pytest.mark.parametrize("version", VERSIONS)
def test_create_with_a_binary_body_arrives(version: str, home: str, ada: User) -> None:
    client, name = ada.client(version), f"binary-{version.replace('.', '-')}"
    done = client.succeed("-n", home, "create", "configmap", name, "--from-literal=a=b", "-v=8")
    assert "vnd.kubernetes.protobuf" in done.stderr or version == "1.28", done.stderr[:2000]
    assert client.succeed("-n", home, "get", "configmap", name, "-o", "jsonpath={.data.a}").stdout == "b"


# 14
@pytest.mark.parametrize("version", VERSIONS)
def test_edit_writes_what_the_editor_left(version: str, home: str, ada: User) -> None:
    client, name = ada.client(version), f"edited-{version.replace('.', '-')}"
    client.succeed("-n", home, "create", "configmap", name, "--from-literal=colour=red")
    editor = client.home / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/red/blue/ "$1"\n')
    editor.chmod(0o755)
    words = client.command("-n", home, "edit", "configmap", name)
    done = client.program(*words, env={"KUBE_EDITOR": str(editor)})
    assert done.stdout == f"configmap/{name} edited\n", done.stderr
    assert client.succeed("-n", home, "get", "configmap", name, "-o", "jsonpath={.data.colour}").stdout == "blue"


# 14
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json-patch+json", '[{"op":"add","path":"/data/x","value":"1"}]'),
        ("application/merge-patch+json", '{"data":{"x":"2"}}'),
        ("application/strategic-merge-patch+json", '{"data":{"x":"3"}}'),
        ("application/apply-patch+yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {x: '4'}\n"),
    ],
)
def test_each_kind_of_patch_arrives_as_it_is(kind: str, body: str, home: str, ada: User) -> None:
    path = f"/api/v1/namespaces/{home}/configmaps"
    with ada.http() as api:
        api.post(path, json={"metadata": {"name": "patched"}, "data": {"x": "0"}})
        query = {"fieldManager": "tests", **({"force": "true"} if "apply" in kind else {})}
        answer = api.patch(f"{path}/patched", content=body, params=query, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["x"] in body


# 15
def test_large_body_arrives_in_chunks_and_after_a_100(home: str, ada: User, stack: Stack) -> None:
    path = f"/api/v1/namespaces/{home}/configmaps"
    body = json.dumps({"metadata": {"name": "large"}, "data": {"a": "x" * 900_000}}).encode()
    pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    with ada.http(headers={"content-type": "application/json", "authorization": f"Bearer {ada.token}"}) as api:
        made = api.post(path, content=pieces)
        assert made.status_code == 201, made.text
        dry = json.dumps({"metadata": {"name": "l2", "annotations": {"a": "x" * 2 * MEBIBYTE}}}).encode()
        refused = api.post(path, content=dry, headers={"expect": "100-continue"})
        assert refused.status_code == 422, refused.text  # 2 MiB came; the server does not like them as an annotation
        assert "annotations" in refused.text


def test_body_over_the_server_s_limit_gets_the_server_s_own_413(home: str, ada: User, stack: Stack) -> None:
    path = f"/api/v1/namespaces/{home}/configmaps"
    body = json.dumps({"metadata": {"name": "l3"}, "data": {"a": "x" * 4 * MEBIBYTE}}).encode()
    with ada.http() as api, stack.direct_http() as direct:
        kind = {"content-type": "application/json"}
        answers = [each.post(path, content=body, headers=kind) for each in (api, direct)]
    assert [answer.status_code for answer in answers] == [413, 413]
    assert answers[0].json() == answers[1].json()


# 16
@pytest.mark.parametrize("version", VERSIONS)
def test_delete_and_wait_follow_what_happens(version: str, home: str, ada: User, stack: Stack) -> None:
    client, name = ada.client(version), f"held-{version.replace('.', '-')}"
    held = objects.named("ConfigMap", name, metadata={"finalizers": ["towline.test/held"]})
    objects.apply(stack.direct(), home, held)
    with client.going("-n", home, "delete", "configmap", name) as delete:
        delete.line("deleted")
        client.succeed("-n", home, "get", "configmap", name)
        assert delete.process.poll() is None
        client.succeed("-n", home, "patch", "configmap", name, "--type=merge", "-p", '{"metadata":{"finalizers":[]}}')
        assert delete.wait() == 0, delete.stderr
    client.fail("-n", home, "get", "configmap", name, says="not found")


@pytest.mark.parametrize("version", VERSIONS)
def test_wait_sees_a_condition_come_true(version: str, home: str, ada: User, stack: Stack) -> None:
    client, name = ada.client(version), f"waited-{version.replace('.', '-')}"
    objects.apply(stack.direct(), home, objects.named("Widget", name, version="towline.test/v1", spec={"size": 1}))
    with client.going("-n", home, "wait", "--for=jsonpath={.spec.size}=2", f"widget/{name}", "--timeout=30s") as wait:
        threading.Event().wait(0.5)  # it must wait, and then see the change
        assert wait.process.poll() is None, wait.stderr
        client.succeed("-n", home, "patch", "widget", name, "--type=merge", "-p", '{"spec":{"size":2}}')
        assert wait.wait() == 0, wait.stderr


# 17
def test_helm_installs_upgrades_rolls_back_and_removes(home: str, ada: User, stack: Stack) -> None:
    client = ada.client()
    chart = client.home / "shop"
    for name, text in CHART.items():
        (chart / name).parent.mkdir(parents=True, exist_ok=True)
        (chart / name).write_text(text)
    note = ("-n", home, "get", "configmap", "shop-note", "-o", "jsonpath={.data.note}")
    log = differential.AuditLog.from_now(stack.audit_log)
    assert (
        "STATUS: deployed" in client.helm("-n", home, "install", "shop", str(chart), "--wait", "--timeout=60s").stdout
    )
    client.helm("-n", home, "upgrade", "shop", str(chart), "--set", "note=second", "--wait", "--timeout=60s")
    assert client.succeed(*note).stdout == "second"
    (release,) = json.loads(client.helm("-n", home, "list", "-o", "json").stdout)
    assert (release["name"], release["revision"], release["status"]) == ("shop", "2", "deployed")
    client.helm("-n", home, "rollback", "shop", "1", "--wait", "--timeout=60s")
    assert client.succeed(*note).stdout == "first"
    client.helm("-n", home, "uninstall", "shop", "--wait", "--timeout=60s")
    assert json.loads(client.helm("-n", home, "list", "-o", "json").stdout) == []
    made = [each for each in log.requests(stack.account) if each.get("userAgent", "").startswith("Helm")]
    assert made
    assert {each["impersonatedUser"]["username"] for each in made} == {ada.identity}
