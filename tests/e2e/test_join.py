"""The copied line on a fresh host with only sh and curl: as its owner, as a user without rights, and refused."""

import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.commands import answer, succeed
from tests.support.product import Product, wait_for
from tests.testbed import bases, images, paths, processes

from towline.control.install.targets import MACHINES

pytestmark = [
    pytest.mark.docker,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]
INSTALL_TIMEOUT = 120.0
NOBODY = 65534
TOOLS = ("sh", "cat", "cut", "curl", "mktemp", "rm", "uname", "ls", "id", "sha256sum", "mkdir", "sleep", "stty", "env")
AGENT_IMAGE = "towline-test/agent:1"
ONE_SERVICE = f"services: {{web: {{image: {images.BASE}, command: sleep 1000, stop_signal: KILL}}}}\n"


class Host:
    """A home folder that plays a fresh host, and the user who pastes the line there."""

    def __init__(self, home: Path, *, path: str = "/usr/bin:/bin", user: int | None = None) -> None:
        self.home, self.user = home, user
        self.seen_in_arguments = False
        home.mkdir(mode=0o755)
        if user is not None:
            os.chown(home, user, user)
        self.environment = {"HOME": str(home), "PATH": path, "TMPDIR": str(home), **self._places()}

    def _places(self) -> dict[str, str]:
        """Where root's installation would go instead of this machine's own folders."""
        if self.user is not None or not processes.is_root():
            return {}
        return {
            "TOWLINE_INSTALL_ROOT": str(self.home / "program"),
            "TOWLINE_INSTALL_BIN": str(self.home / "bin"),
            "TOWLINE_AGENT_STATE_FOLDER": str(self.home / "state"),
        }

    @property
    def state(self) -> Path:
        return self.home / ("state" if self._places() else ".local/share/towline-agent")

    def paste(self, line: str, secret: str) -> tuple[int, str]:
        """Run the line as it was printed, and look into the arguments of every process for the secret meanwhile."""
        with subprocess.Popen(
            ["/bin/sh", "-c", line.replace(secret, '"$(cat token)"')], env=self.environment, cwd=self.home,
            user=self.user, group=self.user, extra_groups=[] if self.user is not None else None,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ) as process:  # fmt: skip
            ended = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(secret.encode(), ended))
            watcher.start()
            try:
                output, _ = process.communicate(timeout=INSTALL_TIMEOUT)
            finally:
                ended.set()
                watcher.join()
                process.kill()
        return process.returncode, output

    def _watch(self, secret: bytes, ended: threading.Event) -> None:
        while not ended.wait(0.01):
            for each in Path("/proc").iterdir():
                if each.name.isdigit():
                    with suppress(OSError):
                        self.seen_in_arguments |= secret in (each / "cmdline").read_bytes()

    def join(self, product: Product, cluster: str) -> tuple[int, str]:
        made = answer(product, f"towline join-token create --cluster {cluster}")
        assert made["token"] in made["command"]
        # The test's own shell must not hold the secret, or the watcher sees that one.
        (self.home / "token").write_text(made["token"])
        (self.home / "token").chmod(0o644)
        return self.paste(made["command"], made["token"])

    def end(self) -> None:
        with suppress(OSError, ValueError):
            os.kill(int((self.state / "agent.pid").read_text()), signal.SIGTERM)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path / "home")
    yield made
    made.end()


def test_a_host_joins_by_the_copied_line_and_takes_a_deploy(shop: Product, host: Host) -> None:
    code, output = host.join(shop, "second")
    try:
        assert code == 0, output
        assert "connected to https://" in output
        if not Path("/run/systemd/system").exists():
            assert "there is no systemd here" in output
            assert "agent run --state-folder" in output
        assert not host.seen_in_arguments
        (shop.folder / "one.yaml").write_text(ONE_SERVICE)
        succeed(shop, "towline deploy second/w4second -f one.yaml --settle 0.5")
        assert (host.state / "projects" / "w4second" / "compose.yaml").is_file()
        succeed(shop, "towline remove second/w4second --yes")
    finally:
        shop.run("towline clusters remove second --yes")


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users may pass; pytest closes its own to them whenever it starts."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.root
def test_a_user_without_rights_joins_and_the_page_says_what_is_missing(shop: Product, public_folder: Path) -> None:
    host = Host(public_folder / "home", user=NOBODY)
    try:
        code, output = host.join(shop, "third")
        assert code == 0, output
        assert not host.seen_in_arguments
        assert (host.state / "identity.json").stat().st_uid == NOBODY
        health = wait_for(
            lambda: [
                c["health"] for c in answer(shop, "towline clusters") if c["name"] == "third" and c["health"]["reason"]
            ],
            "the reason of its health",
        )[0]
        assert "permission denied" in health["reason"], health
    finally:
        shop.run("towline clusters remove third --yes")
        host.end()


def test_a_file_that_is_not_what_was_promised_installs_nothing(shop: Product, tmp_path: Path) -> None:
    first = Host(tmp_path / "first")
    first.paste(f'printf %s nothing | sh -c "$(curl -fsS {shop.url}/install)" towline-install', "no-secret")
    made = answer(shop, "towline join-token create --cluster fourth")
    packed = sorted((shop.folder / "up" / "server" / "install").rglob("structlog-*.whl"))
    assert packed, "the server packs its wheels where this test looks for them"
    kept = [path.read_bytes() for path in packed]
    try:
        for path in packed:
            path.chmod(0o644)
            path.write_bytes(path.read_bytes() + b"more")
        host = Host(tmp_path / "home")
        (host.home / "token").write_text(made["token"])
        code, output = host.paste(made["command"], made["token"])
    finally:
        for path, content in zip(packed, kept, strict=True):
            path.write_bytes(content)
    assert code != 0
    assert "structlog" in output
    assert "nothing was installed" in output
    assert not (host.home / "program").exists()
    assert not (host.state / "identity.json").exists()


def tools(folder: Path, *more: str) -> str:
    """Make a folder with the commonest programs, and no Python among them. Returns: a PATH of it alone."""
    folder.mkdir()
    for name in (*TOOLS, *more):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.root
def test_a_host_with_docker_alone_runs_the_agent_as_a_container(
    shop: Product, tmp_path: Path, base_images: str
) -> None:
    bases.build(paths.PROJECT / "build" / "Dockerfile.agent", AGENT_IMAGE)
    served = shop.folder / "up" / "server" / "images"
    served.mkdir()
    images.docker("save", "--output", str(served / f"towline-agent-{MACHINES[platform.machine()]}.tar"), AGENT_IMAGE)
    host = Host(tmp_path / "home", path=tools(tmp_path / "tools", "docker"))
    try:
        code, output = host.join(shop, "sixth")
        assert code == 0, output
        assert "runs as the container towline-agent" in output
        assert not host.seen_in_arguments
        wait_for(
            lambda: [c for c in answer(shop, "towline clusters") if c["name"] == "sixth" and c["link"]["connected"]],
            "the container's agent",
        )
        (shop.folder / "one.yaml").write_text(ONE_SERVICE)
        succeed(shop, "towline deploy sixth/w4sixth -f one.yaml --settle 0.5")
        succeed(shop, "towline remove sixth/w4sixth --yes")
    finally:
        images.docker("rm", "--force", "towline-agent")
        shop.run("towline clusters remove sixth --yes")
        shutil.rmtree(served)


def test_a_host_without_python_and_docker_is_told_what_it_needs(shop: Product, tmp_path: Path) -> None:
    host = Host(tmp_path / "home", path=tools(tmp_path / "tools"))
    code, output = host.join(shop, "fifth")
    assert code != 0
    assert "Python 3.11 or newer" in output
    assert "apt-get install python3" in output
    assert not (host.state / "identity.json").exists()
