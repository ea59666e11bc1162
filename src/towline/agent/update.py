"""Orders to update the agent: verified against pinned release keys, or refused with a reason.

The order is a manifest signed by a key that the agent has pinned (`Trust.signing_keys`), so that a control plane that
was taken over cannot bring code here. What it names is fetched by the installer that put this agent here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import towline
from towline.agent.errors import AgentError
from towline.agent.identity import decoded
from towline.wire import link

_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-.]?(a|b|rc|dev)(\d+))?", re.ASCII)
_STAGES = {"dev": 0, "a": 1, "b": 2, "rc": 3, None: 4}
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
MAX_FILES = 200


class UpdateRefused(AgentError):
    """The agent does not install this."""


class File(msgspec.Struct, frozen=True):
    name: str
    sha256: str
    size: int


class Manifest(msgspec.Struct, frozen=True):
    """What a release consists of."""

    version: str
    files: tuple[File, ...]


def verify(order: link.Update, pinned: Iterable[str]) -> Manifest:
    """Check an order. Raises: UpdateRefused: unsigned, signed by somebody else, unreadable, or not newer."""
    keys = tuple(pinned)
    if not keys:
        raise UpdateRefused("no release key is pinned on this host, so no update can be believed")
    if not any(_signed_by(order, key) for key in keys):
        raise UpdateRefused("the order to update is not signed by a release key that this agent has pinned")
    try:
        manifest = msgspec.json.decode(order.manifest, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise UpdateRefused(f"the manifest of the update cannot be read: {error}") from error
    if release(manifest.version) <= release(towline.__version__):
        raise UpdateRefused(f"release {manifest.version} is not newer than {towline.__version__}, which runs here")
    _check_files(manifest.files)
    return manifest


def release(text: str) -> tuple[int, int, int, int, int]:
    """Return a release's place in order. Raises: UpdateRefused: it is not a version of ours."""
    match = _RELEASE.fullmatch(text)
    if match is None:
        raise UpdateRefused(f"{text[:64]!r} is not a version")
    major, minor, patch, stage, number = match.groups()
    return int(major), int(minor), int(patch), _STAGES[stage], int(number or 0)


def _signed_by(order: link.Update, key: str) -> bool:
    try:
        public = Ed25519PublicKey.from_public_bytes(decoded(key))
        public.verify(decoded(order.signature), link.update_text(order.manifest))
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_files(files: tuple[File, ...]) -> None:
    if not 0 < len(files) <= MAX_FILES:
        raise UpdateRefused(f"an update has 1 to {MAX_FILES} files, this one {len(files)}")
    for file in files:
        if "/" in file.name or file.name in ("", ".", "..") or not _SHA256.fullmatch(file.sha256) or file.size <= 0:
            raise UpdateRefused(f"the update's file {file.name[:64]!r} has no usable name, size or hash")
