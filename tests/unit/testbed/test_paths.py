"""Built things are named by everything that changes them."""

from pathlib import Path

from tests.testbed import paths


def test_digest_changes_with_a_files_content_and_with_a_word(tmp_path: Path) -> None:
    file = tmp_path / "go.mod"
    file.write_text("module a")
    first = paths.digest([file], "-s")
    assert paths.digest([file], "-s") == first
    assert paths.digest([file], "-w") != first
    file.write_text("module b")
    assert paths.digest([file], "-s") != first


def test_digest_keeps_neighbours_apart(tmp_path: Path) -> None:
    assert paths.digest([], "ab", "c") != paths.digest([], "a", "bc")
