"""The Compose file that Towline lays over the user's own, so that the user's stays as it was written.

It holds three things, each only when needed: image digests of the revision that is put back, the files of secrets, and
a label with the digest of the files that a service mounts, because Compose does not see when their content changes.
Not here: writing it to a disk.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from towline.compose import layout, names, paths, references
from towline.compose.errors import ReferenceRefused
from towline.compose.model import FileKind, Project, Service
from towline.compose.policy.services import FILES_LABEL

HEADER = "# Written by Towline at each deploy. Change the Compose file instead.\n"
_WATCHED = frozenset({FileKind.MOUNT, FileKind.CONFIG, FileKind.SECRET, FileKind.LABEL_FILE})


def pins_needed(recorded: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Which services must be pinned to run a revision's recorded images.

    Args: recorded: service to the image it ran (`repo@sha256:…`, or an image id for one built here). present: service
        to the same for what its plain image name means on the host now. Where both agree no pin is needed, and a
        container that already runs it is not made anew.
    """
    return {service: image for service, image in recorded.items() if present.get(service) != image}


def render(
    project: Project,
    *,
    folder: str,
    pins: Mapping[str, str] | None = None,
    secrets: Iterable[str] = (),
    versions: Mapping[str, str] | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    """Write the override.

    Args: folder: the folder that the project's paths were resolved against. pins: service to image. secrets: names
        of all secrets of the deployment. versions: secret to its version, any text that changes with the value.
        files: bundle path to the digest of its content.
    Returns: YAML, or "" when nothing has to be laid over.
    Raises: ReferenceRefused, NameRefused.
    """
    known = {names.secret_name(name) for name in secrets}
    services: dict[str, Any] = {}
    for service in project.services.values():
        body = _service(project, service, folder, versions or {}, files or {})
        if pin := (pins or {}).get(service.name):
            body |= _pinned(pin)
        if body:
            services[service.name] = body
    wired = {
        name: {"file": f"./{layout.secret_path(name)}"}
        for name in sorted(known & {used for service in project.services.values() for used in service.secrets})
        if name not in project.secrets
    }
    override = {key: value for key, value in (("services", services), ("secrets", wired)) if value}
    return HEADER + yaml.safe_dump(override, sort_keys=True, default_flow_style=False) if override else ""


def _pinned(image: str) -> dict[str, Any]:
    if not references.is_image_id(image) and not references.parse(image).is_pinned:
        raise ReferenceRefused(f"image {image!r} is not pinned by a digest")
    return {"image": image, "pull_policy": "never" if references.is_image_id(image) else "missing"}


def _service(
    project: Project, service: Service, folder: str, versions: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, Any]:
    seen = watched_content(project, service, folder, versions, files)
    if not seen:
        return {}
    text = "\n".join(f"{name} {digest}" for name, digest in sorted(seen.items()))
    return {"labels": {FILES_LABEL: hashlib.sha256(text.encode()).hexdigest()}}


def watched_content(
    project: Project, service: Service, folder: str, versions: Mapping[str, str], files: Mapping[str, str]
) -> dict[str, str]:
    """The bundle files and secrets that a service sees, with digest or version; a change of one recreates it."""
    places = [
        paths.relative(use.path, folder)
        for use in project.files
        if use.kind in _WATCHED and service.name in use.services and paths.is_within(use.path, folder)
    ]
    found = {
        path: digest
        for path, digest in files.items()
        if any(place == "." or path == place or path.startswith(f"{place}/") for place in places)
    }
    found |= {layout.secret_path(name): versions[name] for name in service.secrets if name in versions}
    for name in versions:
        if layout.secret_path(name) in places:
            found[layout.secret_path(name)] = versions[name]
    return found
