"""Renew the vendored front-end files: `make vendor`.

Fetches each pinned package by its name with npm, copies the named files to the static folder and writes
`vendor.json`: package, version, licence and SHA-256 of every file. `--check` only compares the hashes.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "src" / "towline" / "web" / "static" / "vendor"
PACKAGES: dict[str, tuple[str, str, dict[str, str]]] = {
    "htmx.org": ("4.0.1", "0BSD", {"dist/htmx.min.js": "htmx.js"}),
    "@xterm/xterm": ("6.0.0", "MIT", {"lib/xterm.js": "xterm.js", "css/xterm.css": "xterm.css"}),
    "@xterm/addon-fit": ("0.11.0", "MIT", {"lib/addon-fit.js": "xterm-fit.js"}),
    "@xterm/addon-webgl": ("0.19.0", "MIT", {"lib/addon-webgl.js": "xterm-webgl.js"}),
    "swagger-ui-dist": (
        "5.35.0",
        "Apache-2.0",
        {"swagger-ui-bundle.js": "swagger-ui.js", "swagger-ui.css": "swagger-ui.css"},
    ),
}


def fetch(package: str, version: str, files: dict[str, str]) -> dict[str, bytes]:
    """Return the named files of one package, by their new names."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["npm", "pack", "--silent", f"{package}@{version}"],
            cwd=folder, check=True, capture_output=True, text=True,
        )  # fmt: skip
        with tarfile.open(Path(folder) / done.stdout.strip().splitlines()[-1]) as archive:
            return {name: read(archive, f"package/{source}") for source, name in files.items()}


def read(archive: tarfile.TarFile, member: str) -> bytes:
    """Return one file of an archive without its reference to a source map, which is not shipped."""
    stream = archive.extractfile(member)
    assert stream is not None, member
    lines = stream.read().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith((b"//# sourceMappingURL", b"/*# sourceMappingURL")))


def renew() -> None:
    """Fetch everything and write the files and their manifest."""
    TARGET.mkdir(parents=True, exist_ok=True)
    manifest = []
    for package, (version, licence, files) in PACKAGES.items():
        for name, content in fetch(package, version, files).items():
            (TARGET / name).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            manifest.append(
                {"file": name, "package": package, "version": version, "license": licence, "sha256": digest}
            )
    (TARGET / "vendor.json").write_text(json.dumps(manifest, indent=1) + "\n")


def check() -> list[str]:
    """Return the names of files that differ from the manifest."""
    entries = json.loads((TARGET / "vendor.json").read_text())
    return [e["file"] for e in entries if hashlib.sha256((TARGET / e["file"]).read_bytes()).hexdigest() != e["sha256"]]


if __name__ == "__main__":
    if "--check" in sys.argv:
        if changed := check():
            raise SystemExit(f"vendored files differ from vendor.json: {', '.join(changed)}")
    else:
        renew()
