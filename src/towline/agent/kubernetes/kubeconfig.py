"""A kubeconfig file: one context of it as `Material`. What the agent cannot or should not use is refused by name.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from towline.agent.errors import KubernetesError
from towline.agent.kubernetes.material import Material, read_secret

_HINT = "the agent's setting `kubeconfig` must name a file that the agent's user can read"
_TOKEN = re.compile(r"[\x21-\x7e]+")


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    proxy_url: str = ""


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    username: str = ""
    impersonated: str = msgspec.field(default="", name="as")
    exec: Any = None
    auth_provider: Any = None


class _Context(msgspec.Struct, frozen=True):
    cluster: str = ""
    user: str = ""


class _NamedCluster(msgspec.Struct, frozen=True):
    name: str
    cluster: _Cluster


class _NamedUser(msgspec.Struct, frozen=True):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct, frozen=True):
    name: str
    context: _Context


class _Config(msgspec.Struct, frozen=True, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


_Named = TypeVar("_Named", _NamedCluster, _NamedUser, _NamedContext)


def read(path: Path, context: str = "") -> Material:
    """Read one context of a kubeconfig, and the files that it names.

    Args: context: empty: the file's current context.
    Raises: KubernetesError: the text says which part, and what to do; never what is in it.
    """
    config = _parse(read_secret(path, _HINT), path)
    name = context or config.current_context
    if not name:
        raise KubernetesError(f"{path} has no current context; name one by the agent's setting `kubeconfig_context`")
    chosen = _named(config.contexts, name, "context", path).context
    cluster = _named(config.clusters, chosen.cluster, "cluster", path).cluster
    user = _named(config.users, chosen.user, "user", path).user or _User()
    _refuse_cluster(cluster, path)
    _refuse_user(user, path)
    return _material(cluster, user, path)


def _parse(text: str, path: Path) -> _Config:
    try:
        return msgspec.convert(yaml.safe_load(text), _Config)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)  # its own text quotes the file, and secrets with it
        raise KubernetesError(f"{path} is not YAML{f', line {mark.line + 1}' if mark else ''}") from None
    except (msgspec.ValidationError, RecursionError) as error:
        raise KubernetesError(f"{path} is not a kubeconfig: {error}") from None


def _named(entries: list[_Named] | None, name: str, kind: str, path: Path) -> _Named:
    for entry in entries or ():
        if entry.name == name:
            return entry
    known = ", ".join(sorted(entry.name for entry in entries or ())) or "none"
    raise KubernetesError(f"{path} has no {kind} {name!r}; it has {known}")


def _refuse_cluster(cluster: _Cluster, path: Path) -> None:
    if cluster.insecure_skip_tls_verify:
        fix = "give it the cluster's certificate-authority-data instead"
        raise KubernetesError(f"{path} says insecure-skip-tls-verify, which the agent does not do; {fix}")
    if cluster.proxy_url:
        raise KubernetesError(f"{path} says proxy-url; the agent must reach its API server directly")


def _refuse_user(user: _User, path: Path) -> None:
    fix = "use a ServiceAccount's token, a tokenFile or a client certificate"
    if user.exec is not None or user.auth_provider is not None:
        raise KubernetesError(f"{path} asks a plugin for credentials, and the agent runs none; {fix}")
    if user.username:
        raise KubernetesError(f"{path} has a user name and password, which API servers do not take any more; {fix}")
    if user.impersonated:
        raise KubernetesError(f"{path} impersonates a user; the agent must speak as itself")


def _material(cluster: _Cluster, user: _User, path: Path) -> Material:
    certificate = _pem(user.client_certificate_data, user.client_certificate, "client-certificate", path)
    key = _pem(user.client_key_data, user.client_key, "client-key", path)
    if bool(certificate) != bool(key):
        raise KubernetesError(f"{path} has only one of client-certificate and client-key")
    token = user.token
    if not token and user.token_file:
        token = read_secret(path.parent / user.token_file, "the kubeconfig names it as tokenFile")
    if not token and not certificate:
        raise KubernetesError(f"{path} has neither a token nor a client certificate for its user")
    return Material(
        server=cluster.server,
        server_name=cluster.tls_server_name,
        authorities=_pem(cluster.certificate_authority_data, cluster.certificate_authority, "authority", path),
        certificate=certificate,
        key=key,
        token=checked_token(token, str(path)) if token else "",
    )


def _pem(data: str, file: str, what: str, path: Path) -> str:
    """Return what is inside the file or beside it; the data inside win, as with kubectl."""
    if not data:
        return read_secret(path.parent / file, f"the kubeconfig names it as {what}") if file else ""
    try:
        return base64.b64decode("".join(data.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise KubernetesError(f"the {what} in {path} is not base64 of PEM") from None


def checked_token(text: str, source: str) -> str:
    """Return a token without blanks around it. Raises: KubernetesError: it could not stand in a header."""
    token = text.strip()
    if _TOKEN.fullmatch(token) is None:
        raise KubernetesError(f"{source} does not hold a token")
    return token
