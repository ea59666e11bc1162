"""The kubeconfig on disk: replaced whole or not at all, private, and by one at a time."""

import stat
from pathlib import Path

import pytest

from towline.cli.errors import CliError
from towline.cli.kube import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_private_and_so_is_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "config"
    assert files.change(path, lambda text: text + "a")
    assert (path.read_text(), mode(path), mode(path.parent)) == ("a", 0o600, 0o700)
    assert [one.name for one in path.parent.iterdir()] == ["config"]


def test_a_file_that_stays_the_same_is_not_written_but_made_private(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("a\r\n")
    path.chmod(0o644)
    before = path.stat()
    assert not files.change(path, lambda text: text)
    assert (path.stat().st_ino, path.stat().st_mtime_ns, mode(path)) == (before.st_ino, before.st_mtime_ns, 0o600)


def test_an_edit_that_fails_leaves_the_file_and_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("broken")

    def refuse(_: str) -> str:
        raise CliError("no")

    with pytest.raises(CliError):
        files.change(path, refuse)
    assert path.read_text() == "broken"
    assert [one.name for one in tmp_path.iterdir()] == ["config"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a")
    (tmp_path / "config").symlink_to(tmp_path / "real")
    files.change(tmp_path / "config", lambda text: text + "b")
    assert (tmp_path / "config").is_symlink()
    assert (tmp_path / "real").read_text() == "ab"


def test_kubectl_and_we_keep_out_of_each_others_way(tmp_path: Path) -> None:
    path = tmp_path / "config"
    (tmp_path / "config.lock").touch()
    with pytest.raises(CliError, match="locked"), files.locked(path, timeout=0.0):
        pass
    assert (tmp_path / "config.lock").exists()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CliError, match="no text"):
        files.change(path, lambda text: text)
    assert path.read_bytes() == b"\xff\xfe\x00"


def test_the_file_is_the_one_that_kubectl_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "second").touch()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'first'}:{tmp_path / 'second'}")
    assert files.default_file() == tmp_path / "second"
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.default_file() == tmp_path / ".kube" / "config"
