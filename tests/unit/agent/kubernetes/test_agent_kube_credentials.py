"""Where the API server is and as whom the agent speaks to it: kubeconfigs, ServiceAccounts, and what is refused."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
import yaml

from towline.agent.errors import KubernetesAbsent, KubernetesError
from towline.agent.kubernetes import kubeconfig
from towline.agent.kubernetes.credentials import REREAD_INTERVAL, Credentials, find_source, split_server
from towline.agent.settings import AgentSettings
from towline.aio.clock import SimulatedClock

SECRET = "very-secret-token"
AUTHORITY = trustme.CA()
CLIENT = AUTHORITY.issue_cert("agent@example.org")
CERTIFICATE = CLIENT.cert_chain_pems[0].bytes().decode()
KEY = CLIENT.private_key_pem.bytes().decode()
CA = AUTHORITY.cert_pem.bytes().decode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def write(
    folder: Path, user: dict[str, Any] | None = None, cluster: dict[str, Any] | None = None, **config: Any
) -> Path:
    path = folder / "kubeconfig"
    default = {"server": "https://10.0.0.1:6443", "certificate-authority-data": encoded(CA)}
    value = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "clusters": [{"name": "one", "cluster": default | (cluster or {})}],
        "users": [{"name": "me", "user": {"token": SECRET} if user is None else user}],
        "contexts": [{"name": "ctx", "context": {"cluster": "one", "user": "me", "namespace": "x"}}],
        "current-context": "ctx",
    }
    path.write_text(yaml.safe_dump(value | config))
    return path


def credentials(path: Path, clock: SimulatedClock | None = None) -> Credentials:
    settings = msgspec.structs.replace(AgentSettings(), kubeconfig=path)
    return Credentials(find_source(settings, {}), clock=clock or SimulatedClock())


def test_token_inside_the_file_is_used(tmp_path: Path) -> None:
    server = credentials(write(tmp_path)).current()
    assert (server.host, server.port, server.authority) == ("10.0.0.1", 6443, b"10.0.0.1:6443")
    assert server.authorization == b"Bearer " + SECRET.encode()
    assert server.tls is not None
    assert (server.tls.verify_mode, server.tls.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_client_certificate_speaks_without_a_token(tmp_path: Path) -> None:
    user = {"client-certificate-data": encoded(CERTIFICATE), "client-key-data": encoded(KEY)}
    assert credentials(write(tmp_path, user)).current().authorization is None


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    for name, text in (("ca.crt", CA), ("me.crt", CERTIFICATE), ("me.key", KEY), ("token", f" {SECRET}\n")):
        (tmp_path / name).write_text(text)
    user = {"client-certificate": "me.crt", "client-key": "me.key", "tokenFile": "token"}
    path = write(tmp_path, user, {"certificate-authority": "ca.crt", "certificate-authority-data": ""})
    assert credentials(path).current().authorization == b"Bearer " + SECRET.encode()


def test_k3s_kubeconfig_as_it_is_written_works(tmp_path: Path) -> None:
    path = tmp_path / "k3s.yaml"
    path.write_text(f"""
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {encoded(CA)}
    server: https://127.0.0.1:6443
  name: default
contexts:
- context:
    cluster: default
    user: default
  name: default
current-context: default
kind: Config
users:
- name: default
  user:
    client-certificate-data: {encoded(CERTIFICATE)}
    client-key-data: {encoded(KEY)}
""")
    assert credentials(path).current().authority == b"127.0.0.1:6443"


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"exec": {"command": "aws"}}, "the agent runs none"),
        ({"auth-provider": {"name": "gcp"}}, "the agent runs none"),
        ({"username": "admin", "password": SECRET}, "user name and password"),
        ({"token": SECRET, "as": "system:admin"}, "impersonates"),
        ({}, "neither a token nor a client certificate"),
        ({"token": f"{SECRET}\nX: y"}, "does not hold a token"),
        ({"client-key-data": encoded(KEY)}, "only one of"),
        ({"client-certificate-data": "%%%", "client-key-data": encoded(KEY)}, "not base64"),
        ({"client-certificate-data": encoded("x"), "client-key-data": encoded(KEY)}, "do not fit together"),
        ({"tokenFile": "nowhere"}, "nowhere: no such file or directory; the kubeconfig names it as tokenFile"),
    ],
)
def test_users_that_are_of_no_use_are_refused_by_name(tmp_path: Path, user: dict[str, Any], words: str) -> None:
    with pytest.raises(KubernetesError, match=words) as refused:
        credentials(write(tmp_path, user)).current()
    assert SECRET not in str(refused.value)
    assert KEY[100:140] not in str(refused.value)


@pytest.mark.parametrize(
    ("cluster", "words"),
    [
        ({"insecure-skip-tls-verify": True}, "certificate-authority-data instead"),
        ({"proxy-url": "http://127.0.0.1:1"}, "directly"),
        ({"server": "http://10.0.0.1:8080"}, "spoken to by https"),
        ({"server": "https://rancher.example/k8s/clusters/c-1"}, "has a path"),
        ({"server": "https://user:pass@10.0.0.1"}, "must be https://HOST:PORT"),
        ({"server": "unix:///run/api.sock"}, "must be https://HOST:PORT"),
        ({"server": "https://10.0.0.1:port"}, "cannot be read"),
        ({"server": ""}, "must be https://HOST:PORT"),
        ({"certificate-authority-data": encoded("nothing")}, "is not PEM"),
    ],
)
def test_clusters_that_are_of_no_use_are_refused_by_name(tmp_path: Path, cluster: dict[str, Any], words: str) -> None:
    with pytest.raises(KubernetesError, match=words):
        credentials(write(tmp_path, cluster=cluster)).current()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"current-context": ""}, "no current context"),
        ({"current-context": "other"}, "no context 'other'; it has ctx"),
        ({"users": None}, "no user 'me'; it has none"),
        ({"clusters": "one"}, "is not a kubeconfig"),
    ],
)
def test_kubeconfigs_that_lack_something_say_what(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(KubernetesError, match=words):
        credentials(write(tmp_path, **config)).current()


def test_file_that_is_not_yaml_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(f"users:\n- token: {SECRET}\n  x: [\n")
    with pytest.raises(KubernetesError, match="is not YAML, line") as refused:
        credentials(path).current()
    assert SECRET not in str(refused.value)


def test_missing_kubeconfig_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match="no such file or directory; the agent's setting `kubeconfig`"):
        credentials(tmp_path / "nothing").current()


def test_context_of_the_settings_wins(tmp_path: Path) -> None:
    contexts = [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("one", "two")]
    clusters = [{"name": name, "cluster": {"server": f"https://{name}"}} for name in ("one", "two")]
    path = write(tmp_path, contexts=contexts, clusters=clusters)
    assert kubeconfig.read(path, "two").server == "https://two"


def test_plain_http_is_for_loopback_alone() -> None:
    assert split_server("http://127.0.0.1:8001") == ("http", "127.0.0.1", 8001)
    assert split_server("http://[::1]:8001/") == ("http", "::1", 8001)
    assert split_server("https://[2001:db8::1]") == ("https", "2001:db8::1", 443)
    for other in ("http://10.0.0.1", "http://127.0.0.1.example.org", "http://0.0.0.0"):
        with pytest.raises(KubernetesError):
            split_server(other)


def test_token_is_read_again_within_a_minute(tmp_path: Path) -> None:
    assert REREAD_INTERVAL < 60
    (tmp_path / "token").write_text("first")
    clock = SimulatedClock()
    made = credentials(write(tmp_path, {"tokenFile": "token"}), clock)
    before = made.current()
    (tmp_path / "token").write_text("second")
    assert made.current() is before
    clock._elapsed += REREAD_INTERVAL
    after = made.current()
    assert after.authorization == b"Bearer second"
    assert after.is_same_place(before)  # the same TLS context, so open connections go on


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_token_is_read_again_as_soon_whatever_the_wall_clock_does(tmp_path: Path, jump: float) -> None:
    (tmp_path / "token").write_text("first")
    clock = SimulatedClock()
    made = credentials(write(tmp_path, {"tokenFile": "token"}), clock)
    made.current()
    (tmp_path / "token").write_text("second")
    clock.jump(jump)
    clock._elapsed += REREAD_INTERVAL - 1
    assert made.current().authorization == b"Bearer first"
    clock.jump(-2 * jump)
    clock._elapsed += 1
    assert made.current().authorization == b"Bearer second"


def test_token_that_was_refused_is_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    made = credentials(write(tmp_path, {"tokenFile": "token"}))
    made.current()
    (tmp_path / "token").write_text("second")
    made.forget()
    assert made.current().authorization == b"Bearer second"


def test_connections_are_not_used_with_other_certificates(tmp_path: Path) -> None:
    made = credentials(write(tmp_path))
    before = made.current()
    write(tmp_path, cluster={"certificate-authority-data": encoded(trustme.CA().cert_pem.bytes().decode())})
    made.forget()
    assert not made.current().is_same_place(before)


def test_old_credentials_are_not_used_once_the_file_is_gone(tmp_path: Path) -> None:
    clock, path = SimulatedClock(), write(tmp_path)
    made = credentials(path, clock)
    made.current()
    path.unlink()
    clock._elapsed += REREAD_INTERVAL
    for _ in range(2):
        with pytest.raises(KubernetesError):
            made.current()


def test_pod_uses_its_service_account(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text(CA)
    (tmp_path / "token").write_text(SECRET)
    environment = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    source = find_source(AgentSettings(), environment, service_account=tmp_path)
    server = Credentials(source).current()
    assert (server.authority, server.authorization) == (b"[fd00::1]:443", b"Bearer " + SECRET.encode())


def test_pod_without_a_token_says_what_is_missing(tmp_path: Path) -> None:
    source = find_source(AgentSettings(), {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, service_account=tmp_path)
    with pytest.raises(KubernetesError, match="automountServiceAccountToken"):
        source()


def test_kubeconfig_that_is_not_named_is_never_used(tmp_path: Path) -> None:
    k3s = write(tmp_path)
    with pytest.raises(KubernetesAbsent, match=f"set `kubeconfig` to {k3s}"):
        find_source(AgentSettings(), {"KUBECONFIG": str(k3s)}, k3s=k3s)()
    with pytest.raises(KubernetesAbsent, match="no kubeconfig"):
        find_source(AgentSettings(), {"KUBECONFIG": str(k3s)}, k3s=tmp_path / "none")()


def test_switched_off_is_off(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(AgentSettings(), kubernetes="off", kubeconfig=write(tmp_path))
    with pytest.raises(KubernetesAbsent, match="switched off"):
        find_source(settings, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"})()


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    user = {"token": SECRET, "client-certificate-data": encoded(CERTIFICATE), "client-key-data": encoded(KEY)}
    path = write(tmp_path, user)
    made = credentials(path)
    shown = f"{made!r} {made.current()!r} {made!r} {kubeconfig.read(path)!r}"
    assert "10.0.0.1" in shown
    assert SECRET not in shown
    assert "PRIVATE KEY" not in shown
