"""Local images without a registry: the static busybox as a root file system, under whatever names tests need."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

from tests.testbed.requirement import Missing

PART = "images"
OURS = "towline-test/"
BASE = f"{OURS}base:1"
WEB = f"{OURS}web:1"
BUSYBOX = Path("/bin/busybox")
ACCOUNTS = {
    "etc/passwd": b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
    "etc/group": b"root:x:0:\nnogroup:x:65534:\n",
}
WEB_PAGE = b"towline test page\n"
# A test that plants a marker, or asks for a second version of an image, changes this label and so the image's id.
REVISION_LABEL = "org.towline.test.revision"


def docker(*words: str, host: str | None = None, stdin: bytes | None = None) -> str:
    """Run the Docker CLI. Returns: its output without the last newline."""
    where = ["--host", host] if host else []
    done = subprocess.run(["docker", *where, *words], input=stdin, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"docker {words[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout.decode().strip()


def exists(name: str, host: str | None = None) -> bool:
    """Tell whether the engine has an image of that name."""
    return bool(docker("images", "--quiet", name, host=host))


def root_file_system(pages: dict[str, bytes]) -> bytes:
    """A tar with busybox, a link for each of its applets, the few files that programs expect, and web pages."""
    applets = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX.resolve(), "bin/busybox")
        for applet in applets:
            if applet != "busybox":
                _link(tar, f"bin/{applet}", "busybox")
        for folder, mode in {"tmp": 0o1777, "etc": 0o755, "root": 0o700, "www": 0o755, "data": 0o777}.items():
            _folder(tar, folder, mode)
        files = {
            "etc/passwd": b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n",
            "etc/group": b"root:x:0:\n",
        }
        for path, content in {**files, **{f"www/{name}": page for name, page in pages.items()}}.items():
            add_file(tar, path, content)
    return buffer.getvalue()


def _link(tar: tarfile.TarFile, path: str, target: str) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.linkname = tarfile.SYMTYPE, target
    tar.addfile(entry)


def _folder(tar: tarfile.TarFile, path: str, mode: int) -> None:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    tar.addfile(entry)


def add_file(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    """Put one file with the given content into an archive."""
    entry = tarfile.TarInfo(path)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def make(
    name: str,
    *,
    command: list[str] | None = None,
    revision: str = "1",
    pages: dict[str, bytes] | None = None,
    host: str | None = None,
) -> str:
    """Import a fresh image. Another `revision` gives another image id under the same name. Returns: the id."""
    changes = [f"LABEL {REVISION_LABEL}={revision}", "ENV PATH=/bin", f"CMD {json.dumps(command or ['/bin/sh'])}"]
    words = [word for change in changes for word in ("--change", change)]
    archive = root_file_system(pages or {"index.html": WEB_PAGE})
    return docker("import", *words, "-", name, host=host, stdin=archive)


def make_web(name: str, *, revision: str = "1", page: bytes = WEB_PAGE, port: int = 80, host: str | None = None) -> str:
    """An image whose default command is an HTTP server that serves `page`. Returns: the id."""
    command = ["/bin/httpd", "-f", "-v", "-p", str(port), "-h", "/www"]
    return make(name, command=command, revision=revision, pages={"index.html": page}, host=host)


def ensure(host: str | None = None) -> str:
    """Have the two standard images: `BASE` (a shell) and `WEB` (a page on port 80). Raises: Missing."""
    if not BUSYBOX.exists():
        raise Missing(PART, f"there is no {BUSYBOX}", "apt-get install busybox-static")
    if not exists(BASE, host):
        make(BASE, host=host)
    if not exists(WEB, host):
        make_web(WEB, host=host)
    return f"{BASE}, {WEB}"


def status() -> str:
    """One line for people."""
    there = [name for name in (BASE, WEB) if exists(name)]
    return ", ".join(there) or "not made yet"
