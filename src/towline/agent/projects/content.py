"""From an order to the files of a revision: opening its secrets, reading its bundle, laying over what is ours."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from towline.agent.bundles import BundleStore
from towline.agent.errors import JobFailed, StorageError
from towline.agent.identity import Identity
from towline.agent.projects.registries import Credentials
from towline.agent.projects.staging import Content
from towline.compose import bundle, environment, overrides, project
from towline.compose.errors import BundleRefused, ComposeError, DocumentRefused, EnvironmentRefused
from towline.wire import orders, sealed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Opened:
    """What an order held sealed. No repr of values."""

    secrets: Mapping[str, str]
    registries: tuple[Credentials, ...]

    def __repr__(self) -> str:
        return f"Opened({sorted(self.secrets)}, {self.registries})"


def open_order(order: orders.Deploy, identity: Identity) -> Opened:
    """Open what is sealed in an order. Raises: JobFailed: it is not for this agent."""
    info = orders.seal_info(org_id=order.org_id, deployment_id=order.deployment_id, agent_id=identity.agent_id)
    key = identity.unseal_key().private_bytes_raw()
    try:
        secrets = _opened(key, info, order.sealed_secrets, dict[str, str])
        registries = _opened(key, info, order.sealed_registries, list[Credentials])
    except (sealed.CannotOpen, msgspec.DecodeError, ValueError) as error:
        raise JobFailed(
            "secrets_unreadable",
            "the secrets of this order do not open with this agent's key; it may be meant for another agent",
        ) from error
    return Opened(secrets or {}, tuple(registries or ()))


def _opened(key: bytes, info: bytes, text: str, kind: type[T]) -> T | None:
    if not text:
        return None
    return msgspec.json.decode(sealed.open_sealed(key, info, base64.b64decode(text, validate=True)), type=kind)


def build(
    order: orders.Deploy,
    *,
    secrets: Mapping[str, str],
    bundles: BundleStore,
    folder: str,
    compose_file: str,
    pins: Mapping[str, str],
    version_key: bytes,
) -> tuple[Content, project.Parsed]:
    """Make the files of a revision.

    Args: folder: the project's own, which paths are resolved against. pins: service to the image to run instead.
        version_key: keys the digests that tell Compose that a secret changed.
    Raises: JobFailed: invalid_project, bundle_missing.
    """
    files = _bundle(order.bundle, bundles)
    parsed = _parsed(order, secrets, folder)
    try:
        override = overrides.render(
            parsed.project,
            folder=folder,
            pins=pins,
            secrets=secrets,
            versions={name: _version(version_key, value) for name, value in secrets.items()},
            files=files.digests() if files else {},
        )
    except ComposeError as error:
        raise JobFailed("invalid_project", str(error)) from error
    in_env = parsed.variables() | _environment_secrets(parsed)
    content = Content(
        compose_file=compose_file,
        compose=order.compose,
        env=order.env,
        values={**order.variables, **{name: value for name, value in secrets.items() if name in in_env}},
        secrets=secrets,
        override=override,
        bundle=files,
    )
    return content, parsed


def _bundle(digest: str, bundles: BundleStore) -> bundle.Bundle | None:
    if not digest:
        return None
    try:
        return bundles.read(digest)
    except StorageError as error:
        raise JobFailed("bundle_missing", str(error)) from error
    except BundleRefused as error:
        raise JobFailed("invalid_project", f"the further files are refused: {error}") from error


def _parsed(order: orders.Deploy, secrets: Mapping[str, str], folder: str) -> project.Parsed:
    try:
        values = {**environment.parse(order.env), **order.variables, **secrets}
        return project.parse(order.compose, values, name=order.project, folder=folder)
    except DocumentRefused as error:
        problem = orders.Problem(message=error.message, line=error.line, column=error.column, fix=error.fix)
        raise invalid(str(error), problem, order) from error
    except EnvironmentRefused as error:
        raise invalid(str(error), orders.Problem(message=str(error), line=error.line), order) from error


def invalid(message: str, problem: orders.Problem, order: orders.Deploy) -> JobFailed:
    """Return the failure of a project that cannot be read."""
    detail = orders.DeployDetail(revision=order.revision, revision_id=order.revision_id, errors=(problem,))
    return JobFailed("invalid_project", message, detail)


def _environment_secrets(parsed: project.Parsed) -> set[str]:
    """Return the variables that `secrets:` entries of the form `environment: NAME` read."""
    entries = parsed.project.model["secrets"].values()
    return {str(entry["environment"]) for entry in entries if entry.get("environment")}


def _version(key: bytes, value: str) -> str:
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()
