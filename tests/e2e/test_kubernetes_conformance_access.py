"""Conformance 43 to 48 and 56 with real clients: who gets in, as whom, for how long, and what is written down about it.

The attacks on heads, paths and identities (48 to 55) are driven byte by byte in tests/integration/kubernetes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.support import differential
from tests.support import kubernetes_objects as objects
from tests.support.kubernetes_stack import CLUSTER, Stack, User
from tests.support.product import wait_for
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

CUT_WITHIN = 10.0
PLUGIN = """\
#!/bin/sh
echo run >> "{folder}/runs"
if [ "$(wc -l < "{folder}/runs")" -eq 1 ]; then token={bad}; else token={good}; fi
printf '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"%s"}}}}' "$token"
"""
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


@pytest.fixture(scope="module")
def home(stack: Stack, unanswered: object) -> Iterator[str]:
    with stack.empty_namespace("k8-access") as name:
        objects.apply(stack.direct(), name, objects.pod("shell"))
        objects.wait_for_pods(stack.direct(), name, "pod/shell")
        yield name


@pytest.fixture(scope="module")
def viv(stack: Stack) -> User:
    """A viewer in Towline, whom the cluster itself would let do everything."""
    return stack.user("k8viv", "viewer", bound_to="cluster-admin")


# 43
@pytest.mark.parametrize("version", VERSIONS)
def test_token_that_is_unknown_is_told_so(version: str, ada: User, stack: Stack) -> None:
    for token in ("nonsense", f"{ada.token[:-2]}zz"):
        client = stack.client(stack.server(), {"token": token}, version)
        done = client.run("get", "pods")
        assert done.returncode == 1
        assert "log" in done.stderr, done.stderr
        assert "Warning: " in done.stderr, done.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_credential_plugin_is_asked_again_after_a_401(version: str, ada: User, stack: Stack) -> None:
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never", "command": "./plugin"}
    client = stack.client(stack.server(), {"exec": exec_}, version)
    plugin = client.home / "plugin"
    plugin.write_text(PLUGIN.format(folder=client.home, bad=f"{ada.token[:-2]}zz", good=ada.token))
    plugin.chmod(0o755)
    client.run("get", "ns", "default")
    assert len((client.home / "runs").read_text().splitlines()) >= 2
    assert "default" in client.succeed("get", "ns", "default").stdout


# 44
@pytest.mark.parametrize("how", ["token revoked", "role taken"])
def test_open_streams_end_when_access_ends(how: str, home: str, stack: Stack) -> None:
    name = f"k8cut-{how.split()[0]}"
    user = stack.user(name, "viewer", bound_to="cluster-admin")
    grant = stack.grant(name, "operator")
    user = stack.log_in(name)
    watch = user.client().going("-n", home, "get", "--watch-only", "configmaps", "-v=6")
    shell = user.client().going("-n", home, "exec", "-i", "shell", "--", "cat")
    with watch, shell:
        shell.write(b"hello\n")
        shell.line("hello")
        watch.says("watch=true")
        began = time.monotonic()
        with stack.http(stack.owner.token) as api:
            if how == "token revoked":
                assert api.delete(f"/api/v1/tokens/{user.token_id}").status_code == 204
            else:
                assert api.delete(f"/api/v1/grants/{grant}").status_code == 204
        assert shell.wait(CUT_WITHIN) != 0
        assert time.monotonic() - began < CUT_WITHIN
        watch.wait(CUT_WITHIN)
        assert time.monotonic() - began < CUT_WITHIN
    left = user.client().run("-n", home, "get", "pods")
    assert left.returncode == (1 if how == "token revoked" else 0), left.stderr


# 45
@pytest.mark.parametrize("version", VERSIONS)
def test_viewer_looks_and_opens_nothing_and_a_refused_shell_is_one_group_in_the_audit(
    version: str, home: str, viv: User, stack: Stack
) -> None:
    client = viv.client(version)
    assert "shell" in client.succeed("-n", home, "get", "pods").stdout
    done = client.fail("-n", home, "exec", "shell", "--", "true", says="pods/exec")
    assert "role viewer" in done.stderr
    client.fail("-n", home, "logs", "shell", says="pods/log")
    client.fail("-n", home, "get", "secrets", says="secrets")
    tries = 1 if version == "1.28" else 2  # newer ones try a WebSocket, then SPDY

    def is_one_group() -> bool:
        refused = [each for each in audit(stack, "kubernetes.exec") if "k8viv" in each["actor"].values()]
        newest = refused[0]["detail"].get("kubectl_session") if refused else ""
        group = [each for each in refused if newest and each["detail"].get("kubectl_session") == newest]
        return [each["result"] for each in group] == ["refused"] * tries

    wait_for(is_one_group, "both tries in one group of the audit", 10)


def audit(stack: Stack, action: str, *, timeout: float = 5.0) -> list[dict[str, Any]]:
    """Events of an action, newest first; they are written in batches."""
    deadline = time.monotonic() + timeout
    with stack.http(stack.owner.token) as api:
        while not (found := api.get("/api/v1/audit", params={"action": action, "limit": 100}).json()["items"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return list(found)


# 46
def test_cluster_says_who_one_is_and_what_one_may(ada: User) -> None:
    said = json.loads(ada.kubectl("auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert said["username"] == "towline:k8ada"
    assert "towline:role:admin" in said["groups"]
    assert ada.kubectl("auth", "can-i", "delete", "nodes").stdout == "yes\n"
    assert "*.*" in ada.kubectl("auth", "can-i", "--list").stdout


# 47: every command of the differential table is held against the audit log; here is what else the agent does
def test_agent_itself_only_reads(stack: Stack, ada: User) -> None:
    log = differential.AuditLog(stack.audit_log)
    own = [each for each in log.requests(stack.account) if "impersonatedUser" not in each]
    assert {each["verb"] for each in own} <= {"get", "list", "watch"}
    assert not [each["requestURI"] for each in own if "/secrets" in each["requestURI"]]


# 48
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("flags", ["--as=root", "--as=k8ada --as-group=system:masters", "--as=x --as-uid=1"])
def test_client_that_impersonates_is_refused_in_words(flags: str, version: str, ada: User, stack: Stack) -> None:
    log = differential.AuditLog.from_now(stack.audit_log)
    done = ada.client(version).run("get", "ns", *flags.split())
    assert done.returncode == 1
    assert "impersonation (--as) is not served" in done.stderr
    log.read()
    assert not [each for each in log.events if each.get("impersonatedUser", {}).get("username") == ada.identity]


# 55
def test_user_of_one_cluster_does_not_learn_of_another(stack: Stack) -> None:
    with stack.http(stack.owner.token) as api:
        rows = api.get("/api/v1/clusters", params={"limit": 100}).json()["items"]
    (one,) = (row["id"] for row in rows if row["name"] == CLUSTER)
    user = stack.user("k8one", "admin", scope={"kind": "cluster", "cluster": one}, bound_to="view")
    stack.join("other", "other-3")
    assert user.client().succeed("get", "ns").stdout
    with stack.http(user.token) as api:
        answers = [api.get(f"/k8s/clusters/{name}/version") for name in ("other-3", "nowhere-9")]
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].text.replace("other-3", "NAME") == answers[1].text.replace("nowhere-9", "NAME")


# 56
def test_two_users_in_a_thousand_mixed_requests_stay_themselves(ada: User, viv: User) -> None:
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    with ada.http() as one, viv.http() as two, ThreadPoolExecutor(16) as threads:

        def ask(number: int) -> bool:
            api, user = (one, ada) if number % 3 else (two, viv)
            while (answer := api.post(REVIEW, json=body)).status_code == 429:
                assert "x-kubernetes-pf-flowschema-uid" in answer.headers  # the API server's own limit
            assert answer.status_code == 201, (number, answer.status_code, answer.text)
            said = answer.json()["status"]["userInfo"]
            groups = {group for group in said["groups"] if group.startswith("towline:")}
            return said["username"] == user.identity and ("towline:role:admin" in groups) == (user is ada)

        assert all(threads.map(ask, range(1000)))
