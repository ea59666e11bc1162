"""Bundles into the agent's store, and measurements, through a real tunnel."""

import asyncio
import hashlib
import io
import struct
import tarfile

import pytest

from towline.aio.streams import StreamError
from towline.compose import bundle
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import Bundle, Measure

TIMEOUT = 20.0


def archive(size: int = 300_000) -> bytes:
    """A tar in the form that the store reads back."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("page.html")
        entry.size = size
        tar.addfile(entry, io.BytesIO(bytes(size)))
    return bundle.write_tar(bundle.read_tar(buffer.getvalue()))


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def send(bed, data: bytes, *, digest: str = "", size: int = -1) -> bool:
    """Hand a bundle over as the control plane does; returns whether the agent had it."""
    target = Bundle(digest=digest or digest_of(data), size=len(data) if size < 0 else size)
    async with asyncio.timeout(TIMEOUT):
        stream = await bed.session.open_stream(target)
        try:
            if stream.answer.have:
                return True
            await stream.write(data)
            await stream.write_eof()
            while await stream.read():
                continue
            return False
        finally:
            await stream.aclose()


async def test_bundle_is_stored_once_and_had_afterwards(streams_bed):
    data = archive()
    assert await send(streams_bed, data) is False
    assert streams_bed.bundles.read(digest_of(data)).digests()
    assert await send(streams_bed, data) is True


@pytest.mark.parametrize("damage", ["short", "other"])
async def test_bundle_that_is_not_what_was_announced_is_not_kept(streams_bed, damage):
    data = archive()
    sent = {"short": data[:-1], "other": data[:-1] + b"x"}[damage]
    with pytest.raises(StreamError):
        await send(streams_bed, sent, digest=digest_of(data), size=len(data))
    assert not streams_bed.bundles.has(digest_of(data))


async def test_bundle_that_breaks_off_leaves_nothing_behind(streams_bed, tmp_path):
    data = archive()
    stream = await streams_bed.session.open_stream(Bundle(digest=digest_of(data), size=len(data)))
    await stream.write(data[:100_000])
    stream.abort("cut")
    async with asyncio.timeout(TIMEOUT):
        while streams_bed.router.open:
            await asyncio.sleep(0)
    assert list((tmp_path / "bundles").iterdir()) == []


@pytest.mark.parametrize(
    ("digest", "size"), [("sha256:../../x", 10), ("md5:" + "0" * 64, 10), ("sha256:" + "0" * 64, 10**10)]
)
async def test_digest_or_size_that_cannot_be_is_refused(streams_bed, digest, size):
    with pytest.raises(TargetRefused):
        await streams_bed.session.open_stream(Bundle(digest=digest, size=size))


async def test_download_sends_zeros_for_as_long_as_was_asked(streams_bed):
    async with asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Measure(direction="down", seconds=0.3))
        total = 0
        while data := await stream.read():
            total += len(data)
        await stream.aclose()
    assert total > 100_000


async def test_upload_is_answered_with_the_count(streams_bed):
    async with asyncio.timeout(TIMEOUT):
        stream = await streams_bed.session.open_stream(Measure(direction="up", seconds=1.0))
        await stream.write(bytes(1_234_567))
        await stream.write_eof()
        answer = await stream.read()
        await stream.aclose()
    assert struct.unpack(">Q", answer) == (1_234_567,)


async def test_measurement_for_an_hour_is_refused(streams_bed):
    with pytest.raises(TargetRefused) as refused:
        await streams_bed.session.open_stream(Measure(direction="down", seconds=3600))
    assert refused.value.code == "bad_request"
