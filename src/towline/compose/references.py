"""Image references: their grammar, their parts, and matching them against allowed patterns.

Source: github.com/distribution/reference, package documentation ("Grammar").
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from towline.compose.errors import ReferenceRefused
from towline.compose.text import shown

# The registries' own limits: the whole name, and the tag.
MAX_NAME_LENGTH = 255
MAX_TAG_LENGTH = 128
DEFAULT_REGISTRY = "docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*", re.ASCII)
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_TAG = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{MAX_TAG_LENGTH - 1}}}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image reference. `tag` and `digest` are empty when the text had none."""

    registry: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository, registry included: what a pattern is matched against."""
        return f"{self.registry}/{self.path}"

    @property
    def is_pinned(self) -> bool:
        return bool(self.digest)

    def pinned(self, digest: str) -> str:
        """The same repository at one digest, as a text that Docker understands. Raises: ReferenceRefused."""
        return f"{self.name}@{check_digest(digest)}"


def parse(text: str) -> Reference:
    """Parse an image reference as a person writes it (`nginx`, `host:5000/a/b:tag@sha256:…`).

    Raises: ReferenceRefused, naming the part that is wrong.
    """
    name, at, digest = text.partition("@")
    if at and _DIGEST.fullmatch(digest) is None:
        raise ReferenceRefused(f"image {shown(text)}: what follows '@' must be 'sha256:' and 64 hex digits")
    colon = name.rfind(":")
    tag = ""
    if colon > name.rfind("/"):
        name, tag = name[:colon], name[colon + 1 :]
        if _TAG.fullmatch(tag) is None:
            raise ReferenceRefused(f"image {shown(text)}: the tag is not allowed, use up to 128 of A-Z a-z 0-9 _ . -")
    if len(name) > MAX_NAME_LENGTH:
        raise ReferenceRefused(f"image {shown(text)}: the name is longer than {MAX_NAME_LENGTH} characters")
    registry, path = _split(name)
    if _HOST.fullmatch(registry) is None:
        raise ReferenceRefused(f"image {shown(text)}: {shown(registry)} is not a registry host")
    if _PATH.fullmatch(path) is None:
        hint = "capitals are not allowed" if path.lower() != path else "use a-z, 0-9 and single separators"
        raise ReferenceRefused(f"image {shown(text)}: the name is not allowed, {hint}")
    return Reference(registry, path, tag, digest)


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_host = slash and (any(mark in first for mark in ".:[") or first == "localhost" or first.lower() != first)
    if is_host:
        return first, f"library/{rest}" if first == DEFAULT_REGISTRY and "/" not in rest else rest
    return DEFAULT_REGISTRY, name if slash else f"library/{name}"


def check_digest(digest: str) -> str:
    """Check a content digest. Raises: ReferenceRefused."""
    if _DIGEST.fullmatch(digest) is None:
        raise ReferenceRefused(f"{shown(digest)} is not a digest ('sha256:' and 64 hex digits)")
    return digest


def is_image_id(text: str) -> bool:
    """Tell whether a text is an image's own id, which names a local image only."""
    return _DIGEST.fullmatch(text) is not None


def matches(reference: Reference, patterns: Iterable[str]) -> bool:
    """Tell whether a reference fits one of the patterns.

    A pattern is a repository with `*` for any characters (`registry.example/acme/*`), written in full or as people do
    (`nginx` is `docker.io/library/nginx`), optionally with a tag pattern (`nginx:1.*`).
    """
    return any(_fits(reference, pattern) for pattern in patterns)


def _fits(reference: Reference, pattern: str) -> bool:
    name, tag = pattern, ""
    colon = pattern.rfind(":")
    if colon > pattern.rfind("/"):
        name, tag = pattern[:colon], pattern[colon + 1 :]
    if tag and not fnmatchcase(reference.tag or ("" if reference.digest else "latest"), tag):
        return False
    names = {name} if name == "*" else {name, "/".join(_split(name))}
    return any(fnmatchcase(reference.name, each) for each in names)
