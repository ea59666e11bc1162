"""Images for a cluster's container runtime without a registry: the static busybox as an OCI archive."""

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

from tests.testbed import images

OCI = "application/vnd.oci.image"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def write_archive(path: Path, name: str, entrypoint: list[str]) -> None:
    """Write an OCI archive of one busybox image, as `ctr images import` reads it."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": f"{OCI}.{kind}", "digest": f"sha256:{digest}", "size": len(content)}

    layer = blob(images.root_file_system({"index.html": images.WEB_PAGE}), "layer.v1.tar")
    config = {
        "architecture": MACHINES[os.uname().machine],
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": entrypoint},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {"schemaVersion": 2, "config": blob(_encode(config), "config.v1+json"), "layers": [layer]}
    entry = {**blob(_encode(manifest), "manifest.v1+json"), "annotations": {"io.containerd.image.name": name}}
    files = {
        **blobs,
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": _encode({"schemaVersion": 2, "manifests": [entry]}),
    }
    with tarfile.open(path, "w") as tar:
        for file, content in files.items():
            images.add_file(tar, file, content)


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
