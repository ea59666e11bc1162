"""Which hosts the installer knows."""

from pathlib import Path

import pytest

from towline.control.install.packing import download_command
from towline.control.install.targets import HostKind, UnknownKind, kind_of, own_kind


def test_a_host_is_named_by_python_machine_and_libc() -> None:
    assert str(kind_of("3.12.4", "arm64", "glibc")) == "cp312-aarch64-glibc"
    assert kind_of("3.11", "x86_64", "musl").platforms[0] == "musllinux_1_2_x86_64"


@pytest.mark.parametrize(
    ("python", "machine", "libc"),
    [("3.10", "x86_64", "glibc"), ("2.7", "x86_64", "glibc"), ("", "x86_64", "glibc"), ("3.x", "x86_64", "glibc"),
     ("3.12", "mips", "glibc"), ("3.12", "../../etc", "glibc"), ("3.12", "x86_64", "uclibc"),
     ("3.99", "x86_64", "glibc")],
)  # fmt: skip
def test_an_unknown_host_is_told_what_would_do(python: str, machine: str, libc: str) -> None:
    with pytest.raises(UnknownKind, match="work"):
        kind_of(python, machine, libc)


def test_this_machine_is_of_a_known_kind() -> None:
    kind = own_kind()
    assert kind_of(f"{kind.python[0]}.{kind.python[1]}", kind.machine, kind.libc) == kind


def test_pins_cannot_become_options_of_pip() -> None:
    command = download_command(HostKind((3, 12), "aarch64", "glibc"), Path("wheels"), ["a==1"])
    assert command.index("--") < command.index("a==1")
    assert "manylinux2014_aarch64" in command
