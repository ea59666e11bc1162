"""Pebble, an ACME authority for tests, and its challenge test server; both compiled on first use in seconds."""

from pathlib import Path

from tests.testbed import golang, paths

PART = "pebble"


def build() -> tuple[Path, Path]:
    """Compile both. Returns: the authority's program and the challenge server's."""
    source = paths.SOURCE / "pebble"
    package = "github.com/letsencrypt/pebble/v2/cmd"
    return (
        golang.build("pebble", source, f"{package}/pebble"),
        golang.build("pebble-challtestsrv", source, f"{package}/pebble-challtestsrv"),
    )
