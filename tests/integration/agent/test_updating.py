"""A signed release is installed from what a real server offers, tried out, and switched to; anything else is not."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

import towline
from towline.agent import updating
from towline.agent.update import File, Manifest, UpdateRefused
from towline.control.server import Running, serving
from towline.control.settings import Settings
from towline.tunnel import dial
from towline.tunnel.trust import TrustAnchors


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Running]:
    async with serving(Settings(data_folder=tmp_path / "server", listen="127.0.0.1:0")) as running:
        yield running


async def test_release_is_installed_and_switched_to_only_when_it_is_the_signed_one(
    server: Running, tmp_path: Path
) -> None:
    endpoint = dial.Endpoint.parse(f"https://127.0.0.1:{server.port}")
    route = dial.Route(anchors=TrustAnchors(fingerprints=(server.control.fingerprint,)))
    root = tmp_path / "opt"
    (root / "old").mkdir(parents=True)
    updating.switch(root, root / "old")
    signed = await offered(endpoint, route)

    other = msgspec.structs.replace(signed, files=signed.files[1:])
    with pytest.raises(UpdateRefused, match="which the signed release does not have"):
        await updating.install(other, endpoint, route, root)
    assert (root / "current").resolve() == root / "old"

    python = await updating.install(signed, endpoint, route, root)

    assert (root / "current").resolve() == python.parent.parent
    told = subprocess.run([python, "-m", "towline.agent", "--check"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == towline.__version__
    assert updating.find_root(python.parent.parent) == root
    assert {path.name for path in root.iterdir()} >= {"current", "old"}
    with pytest.raises(UpdateRefused, match="calls itself"):
        await updating._try_out(python.parent.parent, "9.9.9")


async def offered(endpoint: dial.Endpoint, route: dial.Route) -> Manifest:
    """What a release of everything that the server offers would sign."""
    from towline.agent.join import http_client

    async with await http_client(endpoint, route, timeout=60) as client:
        lines = (await updating._list(client)).splitlines()
    files = tuple(File(name=line.split()[2], sha256=line.split()[0], size=1) for line in lines)
    return Manifest(version=towline.__version__, files=files)
