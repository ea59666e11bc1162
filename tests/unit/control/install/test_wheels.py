"""Wheels made again from what is installed."""

import base64
import csv
import hashlib
import io
import zipfile
from importlib import metadata

import pytest

from towline.control.install import wheels

SERVER_DISTRIBUTIONS = {"fastapi", "sqlalchemy", "uvicorn", "alembic", "asyncpg", "argon2-cffi", "jinja2"}


def test_the_agent_needs_no_distribution_of_the_server() -> None:
    names = {wheels.normal(one.metadata["Name"]) for one in wheels.needed()}
    assert {"picows", "uvloop", "cryptography", "msgspec"} <= names
    assert not names & SERVER_DISTRIBUTIONS


def test_every_file_of_a_wheel_is_in_its_record() -> None:
    wheel = wheels.repack(metadata.distribution("structlog"))
    archive = zipfile.ZipFile(io.BytesIO(wheel.content))
    info = f"structlog-{wheel.version}.dist-info"
    rows = {row[0]: row for row in csv.reader(io.StringIO(archive.read(f"{info}/RECORD").decode()))}
    assert set(rows) == set(archive.namelist())
    for path, row in rows.items():
        if not path.endswith("/RECORD"):
            content = archive.read(path)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            assert row[1:] == [f"sha256={digest}", str(len(content))]


def test_the_same_content_is_the_same_wheel() -> None:
    distribution = metadata.distribution("structlog")
    assert wheels.repack(distribution).sha256 == wheels.repack(distribution).sha256


def test_nothing_of_the_installation_itself_travels() -> None:
    names = zipfile.ZipFile(io.BytesIO(wheels.repack(metadata.distribution("structlog")).content)).namelist()
    assert not [name for name in names if name.endswith(("INSTALLER", "direct_url.json", ".pyc")) or ".." in name]


def test_our_own_wheel_holds_the_agent_and_not_the_server() -> None:
    names = zipfile.ZipFile(io.BytesIO(wheels.own_wheel().content)).namelist()
    assert "towline/agent/__init__.py" in names
    assert "towline/cli/main.py" in names
    assert not [name for name in names if name.startswith(("towline/control/", "towline/web/", "towline/gateway/"))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wheel-Version: 1.0\nTag: py3-none-any\n", "py3-none-any"),
        ("Tag: cp311-abi3-manylinux_2_34_x86_64\n", "cp311-abi3-manylinux_2_34_x86_64"),
        ("Tag: cp311-cp311-b\nTag: cp311-cp311-a\n", "cp311-cp311-a.b"),
        ("Tag: py2-none-any\nTag: py3-none-any\n", "py2.py3-none-any"),
    ],
)
def test_tags_are_compressed_into_the_file_name(text: str, expected: str) -> None:
    assert wheels._tags(text) == expected


def test_requirements_pin_by_hash() -> None:
    wheel = wheels.Wheel("a", "1.0", "a-1.0-py3-none-any.whl", b"content")
    assert wheels.requirements([wheel]) == f"a==1.0 --hash=sha256:{hashlib.sha256(b'content').hexdigest()}\n"


def test_a_changed_file_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = metadata.distribution("shellingham")
    files = distribution.files
    assert files is not None
    entry = next(one for one in files if one.suffix == ".py")
    assert entry.hash is not None
    monkeypatch.setattr(entry.hash, "value", "x")
    monkeypatch.setattr(type(distribution), "files", property(lambda _: [entry]))
    with pytest.raises(wheels.CannotPack, match="was changed after it was installed"):
        wheels.repack(distribution)


def test_a_changed_list_of_certificates_is_served_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    distribution = metadata.distribution("certifi")
    files = distribution.files
    assert files is not None
    entry = next(one for one in files if one.suffix == ".pem")
    assert entry.hash is not None
    monkeypatch.setattr(entry.hash, "value", "x")
    monkeypatch.setattr(type(distribution), "files", property(lambda _: files))
    names = zipfile.ZipFile(io.BytesIO(wheels.repack(distribution).content)).namelist()
    assert "certifi/cacert.pem" in names
