"""Files of revisions in a project's folder: plain, replaced whole, and never written through a symlink."""

from pathlib import Path

import pytest

from towline.agent.errors import StorageError
from towline.agent.projects import staging
from towline.agent.projects.staging import Content
from towline.compose import bundle


def content(files: dict[str, bytes] | None = None, **more: object) -> Content:
    made = bundle.of(bundle.File(path, bundle.EntryKind.FILE, data) for path, data in (files or {}).items())
    values: dict[str, object] = {
        "compose_file": "compose.yaml", "compose": "services: {}\n", "env": "A=1\n", "values": {"B": "two words"},
        "secrets": {}, "override": "", "bundle": made if files else None,
    }  # fmt: skip
    return Content(**(values | more))


def test_folder_is_plain_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "shop"

    staging.apply(folder, "shop", content(secrets={"KEY": "v"}, override="services: {}\n"), ())

    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / ".env").read_text().splitlines() == [
        "A=1", "", staging.ENV_NOTE, "B='two words'", "COMPOSE_PROJECT_NAME=shop",
        "COMPOSE_FILE=compose.yaml:.towline/override.yaml",
    ]  # fmt: skip
    modes = {path: (folder / path).stat().st_mode & 0o777 for path in (".env", ".towline/secrets/KEY", "compose.yaml")}
    assert modes == {".env": 0o600, ".towline/secrets/KEY": 0o444, "compose.yaml": 0o644}


def test_files_of_the_revision_before_go_and_data_stays(tmp_path: Path) -> None:
    first = content(
        {"conf/old.txt": b"1", "conf/both.txt": b"1", "gone/x": b"1"}, secrets={"OLD": "1"}, override="x: 1\n"
    )
    staging.apply(tmp_path, "shop", first, ())
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows").write_text("kept")
    (tmp_path / "conf/by-hand").write_text("kept")

    staging.apply(tmp_path, "shop", content({"conf/both.txt": b"2"}), first.bundle_files)

    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"compose.yaml", ".env", "conf/both.txt", "conf/by-hand", "data/rows"}
    assert (tmp_path / "conf/both.txt").read_bytes() == b"2"


def test_applying_twice_is_applying_once(tmp_path: Path) -> None:
    made = content({"a/b": b"1"}, secrets={"KEY": "v"})

    staging.apply(tmp_path, "shop", made, made.bundle_files)
    staging.apply(tmp_path, "shop", made, made.bundle_files)

    assert (tmp_path / "a/b").read_bytes() == b"1"


def test_nothing_is_written_through_a_symlink_of_the_host(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shop", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "conf").symlink_to(elsewhere)
    (folder / "file").symlink_to(elsewhere / "target")

    with pytest.raises(StorageError, match="symlink"):
        staging.apply(folder, "shop", content({"conf/x": b"1"}), ())
    staging.apply(folder, "shop", content({"file": b"1"}), ())

    assert list(elsewhere.iterdir()) == []
    assert not (folder / "file").is_symlink()


def test_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/kept").write_text("x")

    with pytest.raises(StorageError, match="data is a folder"):
        staging.apply(tmp_path, "shop", content({"data": b"1"}), ())


def test_stage_shows_what_else_is_in_the_folder(tmp_path: Path) -> None:
    stage, folder = tmp_path / "stage", tmp_path / "shop"
    staging.apply(folder, "shop", content({"old/x": b"1"}), ())
    (folder / "by-hand.env").write_text("X=1")

    staging.write_stage(stage, folder, "shop", content({"new/y": b"2"}), ("old/x",))

    assert (stage / "by-hand.env").read_text() == "X=1"
    assert (stage / "new/y").read_bytes() == b"2"
    assert not (stage / "old").exists()
    assert not (stage / "compose.yaml").is_symlink()
    staging.discard(stage)
    assert (folder / "by-hand.env").exists()
