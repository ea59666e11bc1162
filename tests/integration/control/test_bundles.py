"""Bundles over the API: checked, stored once by content, bound to an organisation, handed to agents in pieces."""

import io
import tarfile

import pytest
from tests.support.control_app import ControlApp

from towline.compose.bundle import MAX_ARCHIVE_BYTES
from towline.control.access.permissions import Reach, Role, ScopeKind
from towline.control.bundles import repository
from towline.control.errors import ApiError

URL = "/api/v1/bundles"
TAR = {"content-type": "application/x-tar"}


def tar(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size, member.mtime = len(content), 1_700_000_000
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


async def test_nobody_without_a_token_sends_bundles(control_app: ControlApp) -> None:
    assert (await control_app.client().put(URL, content=tar(a=b"1"), headers=TAR)).status_code == 401


async def test_an_operator_may_not_send_bundles(control_app: ControlApp) -> None:
    olga = await control_app.user("olga", Role.OPERATOR)
    assert (await olga.put(URL, content=tar(a=b"1"), headers=TAR)).status_code == 403


async def test_the_same_files_make_the_same_digest_however_packed(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER, reach=Reach(ScopeKind.PROJECT, project="shop"))
    one = await dora.put(URL, content=tar(b__x=b"2", a=b"1"), headers=TAR)
    other = await dora.put(URL, content=tar(a=b"1", b__x=b"2"), headers=TAR)
    assert one.status_code == 201, one.text
    assert one.json() == other.json()
    assert one.json()["files"] == 2
    assert one.json()["digest"].startswith("sha256:")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a tar", tar(**{"..__etc__passwd": b"x"}), tar(__etc__passwd=b"x"), tar(**{".env": b"x"})],
)
async def test_what_is_no_harmless_tar_is_refused(control_app: ControlApp, content: bytes) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    answer = await dora.put(URL, content=content, headers=TAR)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid")


async def test_a_bundle_larger_than_a_json_body_is_taken_in_and_comes_out_whole(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    raw = tar(data=bytes(range(256)) * 4096 * 5 + b"end")
    answer = await dora.put(URL, content=raw, headers=TAR)
    assert answer.status_code == 201, answer.text
    db, org_id = control_app.control.db, control_app.control.default_org
    async with db.read() as tx:
        bundle = await repository.find(tx, org_id, answer.json()["digest"])
        assert bundle is not None
        pieces = [await repository.chunk(tx, bundle.id, number) for number in range(7)]
    content = b"".join(piece for piece in pieces if piece)
    assert len(content) == bundle.size
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        reader = archive.extractfile("data")
        assert reader is not None and reader.read().endswith(b"end")


async def test_more_than_the_limit_is_refused(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    answer = await dora.put(URL, content=bytes(MAX_ARCHIVE_BYTES + 1), headers=TAR)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_another_organisation_cannot_name_it(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    digest = (await dora.put(URL, content=tar(a=b"1"), headers=TAR)).json()["digest"]
    other = await control_app.org("other")
    async with control_app.control.db.read() as tx:
        assert await control_app.control.bundles.files(tx, control_app.control.default_org, digest)
        with pytest.raises(ApiError, match="does not exist"):
            await control_app.control.bundles.files(tx, other, digest)


async def test_what_nobody_names_goes_after_its_days(control_app: ControlApp) -> None:
    dora = await control_app.user("dora", Role.DEPLOYER)
    kept = (await dora.put(URL, content=tar(a=b"1"), headers=TAR)).json()["digest"]
    gone = (await dora.put(URL, content=tar(a=b"2"), headers=TAR)).json()["digest"]

    async def in_use(_: object, __: str) -> set[str]:
        return {kept}

    bundles, org_id = control_app.control.bundles, control_app.control.default_org
    assert await bundles.drop_unused(in_use, keep_days=1) == 0
    assert await bundles.drop_unused(in_use, keep_days=-1) == 1
    async with control_app.control.db.read() as tx:
        assert await repository.find(tx, org_id, kept) is not None
        assert await repository.find(tx, org_id, gone) is None
