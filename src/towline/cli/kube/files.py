"""The user's kubeconfig on disk: which file it is, changed by one at a time, replaced whole or not at all, 0600."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from towline.cli.errors import FAILED, CliError

LOCK_TIMEOUT = 10.0
LOCK_PAUSE = 0.05
MAX_BYTES = 16 * 1024 * 1024
"""A kubeconfig with thousands of clusters has a few MiB; anything larger is another file."""


def default_file() -> Path:
    """Return the file that kubectl writes: the first of `KUBECONFIG` that exists, or its first, or ~/.kube/config."""
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    existing = [path for path in listed if path.exists()]
    return (existing or listed or [Path.home() / ".kube" / "config"])[0]


def change(path: Path, edit: Callable[[str], str]) -> bool:
    """Replace a file by what `edit` makes of it; an absent one is empty. Returns: False when nothing changed.

    Raises: CliError: it cannot be read, or somebody else holds it. Whatever `edit` raises leaves the file untouched.
    """
    target = path.resolve()  # a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with locked(target):
        before = _read(target)
        after = edit(before)
        if after != before or not target.exists():
            write_private(target, after)
            return True
    if target.stat().st_mode & 0o077:
        target.chmod(0o600)
    return False


def write_private(target: Path, text: str) -> None:
    """Put a file in place at once, readable by its owner alone."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(target: Path, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Hold the lock that kubectl itself takes: a file beside it that only one can create.

    Source: k8s.io/client-go, tools/clientcmd/loader.go, `lockFile`.
    """
    lock = target.with_name(f"{target.name}.lock")
    deadline = time.monotonic() + timeout
    while True:
        try:
            os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0o600))
            break
        except FileExistsError:
            if time.monotonic() > deadline:
                hint = f"when no kubectl runs, remove {lock}"
                raise CliError(f"{target} is locked by somebody else", hint=hint, code=FAILED) from None
            time.sleep(LOCK_PAUSE)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _read(target: Path) -> str:
    try:
        with target.open(encoding="utf-8", newline="") as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise CliError(f"{target} is no text", hint="name another file with --file") from error
    if len(text) > MAX_BYTES:
        raise CliError(f"{target} is too large to be a kubeconfig")
    return text
