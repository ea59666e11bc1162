"""Rules on images and on building them."""

from collections.abc import Iterator, Mapping
from typing import Any

from towline.compose import normal, paths, references
from towline.compose.document import KeyPath
from towline.compose.errors import ReferenceRefused
from towline.compose.policy import keys
from towline.compose.policy.findings import Rule, Violation
from towline.compose.policy.look import Look, as_list, as_mapping
from towline.compose.policy.mounts import project_file
from towline.compose.text import shown

_CACHE_TYPES = frozenset({"inline", "registry"})
_PULL_POLICIES = frozenset({"always", "build", "if_not_present", "missing", "never", ""})


def image(look: Look, path: KeyPath, text: str) -> Iterator[Violation]:
    """Check an image that is pulled."""
    if references.is_image_id(text):
        if look.policy.images:
            yield look.finding(path, Rule.IMAGE, "an image id names no repository", "name the image by its repository")
        return
    try:
        reference = references.parse(text)
    except ReferenceRefused as error:
        yield look.finding(path, Rule.IMAGE, str(error), "write it as name:tag or name@sha256:digest")
        return
    if not all(references.matches(reference, group) for group in look.policy.images):
        message = f"the image {shown(reference.name)} is not one of those allowed here"
        yield look.finding(path, Rule.IMAGE, message, "use an allowed image, or ask for this one")
    if look.policy.require_digest and not reference.is_pinned:
        message = f"the image {shown(text)} is not pinned by a digest"
        yield look.finding(path, Rule.DIGEST, message, "write it as name@sha256:digest")


def pull_policy(look: Look, path: KeyPath, value: str) -> Iterator[Violation]:
    if value not in _PULL_POLICIES:
        message = f"the pull policy {shown(value)} would pull at times of its own"
        yield look.finding(path, Rule.IMAGE, message, "use 'missing' or 'always', and redeploy for fresh images")


def build(look: Look, path: KeyPath, body: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a `build` section: everything it reads lies in the bundle, everything it runs stays in the sandbox."""
    yield from look.keys(path, body, keys.BUILD)
    if look.policy.images:
        yield look.finding(
            path, Rule.BUILD, "only listed images are allowed here, so none can be built", "use 'image:'"
        )
    context = normal.scalar_text(body.get("context")) or "."
    yield from project_file(look, (*path, "context"), context)
    if "dockerfile" in body and not paths.is_remote(context):
        dockerfile = paths.resolve(paths.resolve(look.context.folder, context), normal.scalar_text(body["dockerfile"]))
        yield from project_file(look, (*path, "dockerfile"), dockerfile)
    yield from _contexts(look, (*path, "additional_contexts"), body.get("additional_contexts"))
    if normal.scalar_text(body.get("network")) == "host" and not look.policy.host_network:
        yield look.finding((*path, "network"), Rule.HOST_NETWORK, "the build would use the host's network", "remove it")
    for key in ("cache_from", "cache_to"):
        for index, entry in enumerate(as_list(body.get(key))):
            yield from _cache(look, (*path, key, index), normal.scalar_text(entry))


def _contexts(look: Look, path: KeyPath, value: Any) -> Iterator[Violation]:
    pairs = as_mapping(value) or dict(normal.scalar_text(item).partition("=")[::2] for item in as_list(value))
    for name, text in pairs.items():
        where = (*path, name)
        written = normal.scalar_text(text)
        kind, separator, rest = written.partition(":")
        if separator and kind == "service":
            continue
        if written.startswith("docker-image://"):
            yield from image(look, where, rest.removeprefix("//"))
        else:
            yield from project_file(look, where, written)


def _cache(look: Look, path: KeyPath, text: str) -> Iterator[Violation]:
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    if "=" in text and fields.get("type") not in _CACHE_TYPES:
        message = "this kind of build cache reads or writes the host"
        yield look.finding(path, Rule.BUILD, message, "use type=registry or type=inline")
