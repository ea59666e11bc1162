"""What becomes of a request: identity last, claims of it gone, refusals in the agent's own words."""

from __future__ import annotations

import json
import ssl

import pytest

from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.kubernetes.conversation import Denied, Passed
from towline.agent.kubernetes.credentials import ApiServer
from towline.agent.kubernetes.gate import Gate, admit
from towline.agent.policy import KubernetesRules
from towline.agent.streams.refusal import Refused
from towline.kube.identity import Identity
from towline.wire.http1 import parse_request_head
from towline.wire.streams import Kube

ALICE = Identity("towline:alice", ("towline:role:admin", "towline:team:a,b"), {"towline.dev/session": ("ses_1",)})
SERVER = ApiServer("10.0.0.1", 6443, "10.0.0.1", None, b"Bearer agent-token")
TARGET = "/api/v1/namespaces/shop/pods"
IMPERSONATION = [
    ("Authorization", "Bearer agent-token"),
    ("Impersonate-User", "towline:alice"),
    ("Impersonate-Group", "towline:role:admin"),
    ("Impersonate-Group", "towline:team:a,b"),
    ("Impersonate-Extra-towline.dev%2Fsession", "ses_1"),
]


def gate(identity: Identity | None = ALICE, rules: KubernetesRules | None = None, server: ApiServer = SERVER) -> Gate:
    return Gate(identity, SERVER, lambda: server, lambda: rules or KubernetesRules())


def ask(made: Gate, *fields: str, method: str = "GET", target: str = TARGET) -> Passed | Denied:
    head = "\r\n".join([f"{method} {target} HTTP/1.1", "Host: agent", *fields, "", ""])
    return made.judge(parse_request_head(head.encode()))


def lines(verdict: Passed | Denied) -> list[tuple[str, str]]:
    """The fields that the API server gets."""
    assert isinstance(verdict, Passed)
    _, *fields = verdict.head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return [(name, value) for name, _, value in (field.partition(": ") for field in fields)]


def refusal(verdict: Passed | Denied) -> tuple[int, str]:
    assert isinstance(verdict, Denied)
    head, _, body = verdict.answer(False).partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body)["message"] if b"json" in head else body.decode()


def test_identity_is_written_last_each_group_on_its_own_line() -> None:
    sent = lines(ask(gate(), "User-Agent: kubectl", "Accept: a", "Accept: b", "X-Request-Id: req-1"))
    assert sent[:4] == [("Host", "10.0.0.1:6443"), ("User-Agent", "kubectl"), ("Accept", "a"), ("Accept", "b")]
    assert sent[4:] == [*IMPERSONATION, ("Impersonate-Extra-towline.dev%2Frequest-id", "req-1")]


@pytest.mark.parametrize(
    "field",
    [
        "Authorization: Bearer stolen", "AUTHORIZATION: Basic x", "Proxy-Authorization: x", "Cookie: a=b",
        "Impersonate-User: system:admin", "impersonate-user:", "Impersonate-Group: system:masters",
        "IMPERSONATE-UID: 1", "Impersonate-Extra-Scopes: x", "Impersonate_User: system:admin", "Impersonate-: x",
        "X-Remote-User: root", "X-Remote-Group: system:masters", "X_Remote_User: root", "X-Remote-Extra-A: b",
        "Connection: Impersonate-User", "Connection: keep-alive , Impersonate-Group, authorization",
        "Connection: close", "Keep-Alive: 5", "Proxy-Connection: close", "TE: trailers", "Trailer: Impersonate-User",
        "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Real-Ip: 1.2.3.4", "X-Original-Url: /api/v1/secrets",
        "X-Rewrite-Url: /api/v1/secrets", "X-HTTP-Method-Override: DELETE", "Origin: https://elsewhere",
        "X-Towline-User: root", "Upgrade: websocket",
    ],
)  # fmt: skip
def test_claims_of_a_request_leave_no_trace(field: str) -> None:
    expected = lines(ask(gate()))
    assert lines(ask(gate(), field)) == expected
    assert lines(ask(gate(), field, field)) == expected if not field.startswith("Upgrade") else True


def test_fields_that_connection_names_cannot_take_ours_away() -> None:
    names = (
        "Connection: Host, Authorization, Impersonate-User, Impersonate-Group, Impersonate-Extra-towline.dev%2Fsession"
    )
    assert lines(ask(gate(), names)) == [("Host", "10.0.0.1:6443"), *IMPERSONATION]


@pytest.mark.parametrize("value", ["a b", "x" * 65, "a,b", "ä", "a%0d", ""])
def test_request_id_that_is_none_of_ours_is_left_out(value: str) -> None:
    assert lines(ask(gate(), f"X-Request-Id: {value}"))[-5:] == IMPERSONATION


def test_target_passes_byte_for_byte() -> None:
    target = f"{TARGET}/a/exec?command=sh&command=-c&command=a%20%2F%3Bb;c&x=%ff"
    verdict = ask(gate(), target=target)
    assert isinstance(verdict, Passed)
    assert verdict.head.startswith(f"GET {target} HTTP/1.1\r\n".encode())


def test_framing_is_the_agents_own() -> None:
    assert ("Content-Length", "5") in lines(ask(gate(), "Content-Length: 5", method="POST"))
    assert ("Content-Length", "0") in lines(ask(gate(), "Content-Length: 0", method="POST"))
    chunked = lines(ask(gate(), "Transfer-Encoding: chunked", "Expect: 100-continue", method="POST"))
    assert [line for line in chunked if line[0] in ("Transfer-Encoding", "Expect", "Content-Length")] == [
        ("Transfer-Encoding", "chunked"),
        ("Expect", "100-continue"),
    ]


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_upgrades_of_exec_pass_with_a_connection_of_our_own(protocol: str) -> None:
    verdict = ask(
        gate(),
        "Connection: keep-alive, Upgrade, X-Secret",
        f"Upgrade: {protocol}",
        target=f"{TARGET}/a/exec?command=sh",
    )
    assert isinstance(verdict, Passed)
    assert verdict.is_upgrade
    sent = lines(verdict)
    assert [line for line in sent if line[0] in ("Connection", "Upgrade")] == [
        ("Connection", "Upgrade"),
        ("Upgrade", protocol),
    ]


@pytest.mark.parametrize(
    ("method", "target", "protocol"),
    [
        ("GET", TARGET, "websocket"), ("GET", "/version", "websocket"), ("GET", f"{TARGET}/a/exec", "h2c"),
        ("DELETE", f"{TARGET}/a/exec", "websocket"), ("GET", f"{TARGET}/a/log", "websocket"),
    ],
)  # fmt: skip
def test_other_upgrades_are_dropped(method: str, target: str, protocol: str) -> None:
    verdict = ask(gate(), "Connection: Upgrade", f"Upgrade: {protocol}", method=method, target=target)
    assert isinstance(verdict, Passed)
    assert not verdict.is_upgrade
    assert b"pgrade" not in verdict.head


@pytest.mark.parametrize(
    "target",
    [
        "/api%2Fv1/secrets", f"{TARGET}/a%2Flog", "/api/v1/../secrets", "/api/v1/%2e%2e/secrets", "//api/v1/pods",
        "/api/v1//pods", "/api/v1/pods%00", "/api/v1\\pods", "/api/v1/pods/%zz", "/api/v1/proxy/nodes/n",
    ],
)  # fmt: skip
def test_paths_that_can_be_read_in_two_ways_are_refused(target: str) -> None:
    assert refusal(ask(gate(), target=target))[0] == 400


def test_refusal_of_the_policy_is_a_status_with_a_warning() -> None:
    verdict = ask(gate(rules=KubernetesRules(read_only=True)), method="DELETE")
    assert isinstance(verdict, Denied)
    head, _, body = verdict.answer(True).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b'warning: 299 - "the policy of this host allows reading only"' in head
    assert b"connection: close" in head
    assert b"connection" not in verdict.answer(False)
    status = json.loads(body)
    assert (status["kind"], status["code"], status["reason"]) == ("Status", 403, "Forbidden")


def test_refusal_of_a_head_request_has_no_body() -> None:
    verdict = ask(gate(rules=KubernetesRules(namespaces=())), method="HEAD")
    assert isinstance(verdict, Denied)
    assert verdict.answer(False).endswith(b"\r\n\r\n")


def test_policy_and_credentials_are_asked_for_each_request() -> None:
    rules, servers = [KubernetesRules()], [SERVER]
    made = Gate(ALICE, SERVER, lambda: servers[-1], lambda: rules[-1])
    assert isinstance(ask(made), Passed)
    servers.append(ApiServer("10.0.0.1", 6443, "10.0.0.1", None, b"Bearer rotated"))
    assert ("Authorization", "Bearer rotated") in lines(ask(made))
    rules.append(KubernetesRules(namespaces=("other",)))
    assert refusal(ask(made)) == (403, "the policy of this host does not allow the namespace shop")


def test_credentials_never_go_to_a_connection_that_was_made_with_others() -> None:
    for server in (
        ApiServer("10.0.0.2", 6443, "10.0.0.1", None, b"Bearer x"),
        ApiServer("10.0.0.1", 6443, "10.0.0.1", ssl.create_default_context(), b"Bearer x"),
    ):
        verdict = ask(gate(server=server))
        assert isinstance(verdict, Denied)
        assert (refusal(verdict)[0], verdict.ends) == (503, True)


def test_unreadable_policy_or_credentials_refuse() -> None:
    def refuse() -> KubernetesRules:
        raise PolicyRefused("the policy of this host does not allow kubernetes")

    def broken() -> ApiServer:
        raise KubernetesError("the token is gone")

    assert refusal(ask(Gate(ALICE, SERVER, lambda: SERVER, refuse)))[0] == 403
    assert refusal(ask(Gate(ALICE, SERVER, broken, KubernetesRules))) == (503, "the token is gone")


def test_client_certificate_needs_no_authorization() -> None:
    server = ApiServer("10.0.0.1", 6443, "10.0.0.1", None, None)
    made = Gate(ALICE, server, lambda: server, KubernetesRules)
    assert [line for line in lines(ask(made, "Authorization: Bearer stolen")) if line[0] == "Authorization"] == []
    assert ("Impersonate-User", "towline:alice") in lines(ask(made))


def test_own_rights_come_without_impersonation_and_read_alone() -> None:
    assert lines(ask(gate(None), "Impersonate-User: towline:x")) == [
        ("Host", "10.0.0.1:6443"),
        ("Authorization", "Bearer agent-token"),
    ]
    assert refusal(ask(gate(None), method="POST"))[0] == 403
    assert refusal(ask(gate(None), target="/api/v1/secrets"))[0] == 403
    shell = ask(gate(None), "Connection: Upgrade", "Upgrade: websocket", target=f"{TARGET}/a/exec")
    assert refusal(shell)[0] == 403


def test_refusal_at_the_root_of_discovery_is_plain_text() -> None:
    def refuse() -> KubernetesRules:
        raise PolicyRefused("closed")

    assert refusal(ask(Gate(ALICE, SERVER, lambda: SERVER, refuse), target="/api")) == (403, "closed")


@pytest.mark.parametrize(
    "target",
    [
        Kube(), Kube(user="towline:a"), Kube(groups=("towline:role:admin",)), Kube(user="", groups=("towline:a",)),
        Kube(user="alice", groups=("towline:a",)), Kube(user="system:admin", groups=("towline:a",)),
        Kube(user="system:serviceaccount:a:b", groups=("towline:a",)),
        Kube(user="system:anonymous", groups=("towline:a",)), Kube(user="towline:", groups=("towline:a",)),
        Kube(user=" towline:a", groups=("towline:a",)), Kube(user="towline:a ", groups=("towline:a",)),
        Kube(user="towline:a", groups=("system:masters",)), Kube(user="towline:a", groups=("towline:a", "")),
        Kube(user="towline:a", groups=("system:unauthenticated",)), Kube(user="towline:ä", groups=("towline:a",)),
        Kube(user="towline:a\r\nImpersonate-Group: system:masters", groups=("towline:a",)),
        Kube(user="towline:a\n", groups=("towline:a",)), Kube(user="towline:a", groups=("towline:a\x00",)),
        Kube(user="towline:a", groups=("towline:a",), extra={"scopes": ("x",)}),
        Kube(user="towline:a", groups=("towline:a",), extra={"towline.dev/session": ("a\r\nX: y",)}),
        Kube(user="towline:a", groups=("towline:a",), extra={"towline.dev/a\r\nX": ("y",)}),
        Kube(direct=True, user="towline:a"), Kube(direct=True, groups=("towline:a",)),
        Kube(direct=True, extra={"towline.dev/session": ()}),
        Kube(direct=True, user="towline:a", groups=("towline:a",)),
    ],
)  # fmt: skip
def test_identities_that_nobody_may_have_are_refused(target: Kube) -> None:
    with pytest.raises(Refused) as refused:
        admit(target)
    assert refused.value.code == "forbidden"


def test_system_authenticated_may_be_named() -> None:
    assert admit(Kube(user="towline:a", groups=("towline:a", "system:authenticated"))) is not None
    assert admit(Kube(direct=True)) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_credentials_that_are_not_taken_are_read_anew_and_the_client_is_not_called_unauthorized(method: str) -> None:
    forgotten: list[str] = []
    made = Gate(ALICE, SERVER, lambda: SERVER, KubernetesRules, lambda: forgotten.append("now"))
    assert isinstance(ask(made, method=method), Passed)
    head, _, body = made.not_taken().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"credentials of its agent" in head
    assert bool(body) == (method != "HEAD")
    assert forgotten == ["now"]


def test_workloads_behind_the_api_server_answer_for_themselves() -> None:
    proxied = ask(gate(), target="/api/v1/namespaces/shop/pods/web/proxy/private")
    assert isinstance(proxied, Passed)
    assert proxied.is_proxied
    plain = ask(gate())
    assert isinstance(plain, Passed)
    assert not plain.is_proxied
