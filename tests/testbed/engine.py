"""The Docker engine: the machine's own when it runs, one of ours otherwise, and private ones to be killed by tests."""

import os
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbed import images, paths, processes
from tests.testbed.requirement import Missing

PART = "docker"
# Three seconds is usual; a busy machine that has to restore containers takes longer.
READY_TIMEOUT = 60.0
# dockerd gives every container ten seconds to stop before it ends itself.
STOP_TIMEOUT = 40.0
# The default network of a private engine is 10.203.0.0/24 or, by its index, one of the next: away from Docker's pools.
PRIVATE_NETWORK = 203
PROJECT_BRIDGE = re.compile(rb"br-[0-9a-f]{12}")
SYSTEM_PID_FILE = Path("/var/run/docker.pid")


def answers(host: str | None = None) -> bool:
    """Tell whether an engine answers, at `host` or where the environment points."""
    where = ["--host", host] if host else []
    try:
        done = subprocess.run(
            ["docker", *where, "version", "--format", "{{.Server.Version}}"], capture_output=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def ensure() -> str:
    """Have an engine answer. Returns: its version. Raises: Missing."""
    if shutil.which("docker") is None:
        raise Missing(PART, "there is no docker command", "apt-get install docker.io")
    if not answers():
        _start()
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def _start() -> None:
    if os.geteuid() != 0:
        raise Missing(PART, "no engine answers this user", "start Docker, or join its group")
    if shutil.which("dockerd") is None:
        raise Missing(PART, "there is no dockerd", "apt-get install docker.io iptables")
    mount_control_groups()
    folder = paths.state(PART)
    log = folder / "dockerd.log"
    log.unlink(missing_ok=True)
    is_new = processes.recall(folder / "pid") is None
    if is_new:
        SYSTEM_PID_FILE.unlink(missing_ok=True)  # left by a kill; its number may belong to somebody else by now
        started = processes.spawn(["dockerd", "--pidfile", SYSTEM_PID_FILE], log)
        processes.remember(folder / "pid", processes.detach(started))
    try:
        processes.wait_until(
            answers,
            "dockerd",
            timeout=READY_TIMEOUT,
            log=log,
            alive=lambda: processes.recall(folder / "pid") is not None,
        )
    except processes.DidNotStart as error:
        raise Missing(PART, str(error), f"look at {log}") from error
    if is_new:  # one that was only slow to answer has containers of a run that goes on
        remove_leftovers()


def remove_leftovers(host: str | None = None) -> None:
    """Remove the containers of runs that were killed: a host with stopped projects is not healthy to any later test."""
    listed = images.docker("ps", "--all", "--format", "{{.ID}} {{.Image}}", host=host)
    left = [words[0] for words in map(str.split, listed.splitlines()) if words[1].startswith(images.OURS)]
    if left:
        images.docker("rm", "--force", "--volumes", *left, host=host)


def mount_control_groups() -> None:
    """Mount control groups where no init system did; dockerd, which needs them, says so itself when this fails."""
    kinds = {line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    if not kinds & {"cgroup", "cgroup2"}:
        subprocess.run(["mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup"], capture_output=True)


def status() -> str:
    """One line for people."""
    if not answers():
        return "does not answer"
    pid = processes.recall(paths.state(PART) / "pid")
    return f"answers, started by the test bed as {pid}" if pid else "answers, not started by the test bed"


def down() -> None:
    """Stop the engine that the test bed started; leave any other alone."""
    pid_file = paths.state(PART) / "pid"
    pid = processes.recall(pid_file)
    if pid is not None:
        processes.end(pid, timeout=STOP_TIMEOUT)
    pid_file.unlink(missing_ok=True)


@dataclass(slots=True)
class PrivateEngine:
    """A second engine with its own data, socket and address pool, for tests that kill engines.

    It writes no packet filter rules and has a bridge of its own, so it never disturbs the machine's engine: containers
    reach each other on their project's network, published ports work from this machine, nothing is reachable outwards.
    """

    folder: Path
    index: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def host(self) -> str:
        """The value for `DOCKER_HOST`."""
        return f"unix://{self.folder / 'docker.sock'}"

    @property
    def log(self) -> Path:
        """Where dockerd writes."""
        return self.folder / "dockerd.log"

    def start(self) -> None:
        """Start dockerd and wait until it answers; also after `kill`, on the same data."""
        (self.folder / "docker.pid").unlink(missing_ok=True)
        self._add_bridge()
        process = self.process = processes.spawn(self._argv(), self.log)
        processes.wait_until(
            lambda: answers(self.host),
            "dockerd",
            timeout=READY_TIMEOUT,
            log=self.log,
            alive=lambda: process.poll() is None,
        )

    @property
    def bridge(self) -> str:
        """The interface of its default network."""
        return f"towline{self.index}"

    def _add_bridge(self) -> None:
        if not Path(f"/sys/class/net/{self.bridge}").exists():
            subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
            address = f"10.{PRIVATE_NETWORK + self.index}.0.1/24"
            subprocess.run(["ip", "address", "add", address, "dev", self.bridge], check=True)
        subprocess.run(["ip", "link", "set", self.bridge, "up"], check=True)

    def _remove_networks(self) -> None:
        """Delete the bridges that nobody told dockerd to delete; its own notes name them."""
        notes = self.folder / "data" / "network" / "files" / "local-kv.db"
        names = {name.decode() for name in PROJECT_BRIDGE.findall(notes.read_bytes())} if notes.exists() else set()
        for interface in (self.bridge, *names):
            if Path(f"/sys/class/net/{interface}").exists():
                subprocess.run(["ip", "link", "delete", interface], check=True)

    def _argv(self) -> list[str | Path]:
        # Neither `--bridge none` nor an address pool: with them dockerd deletes docker0, which is not its own here.
        return [
            "dockerd",
            "--host", self.host,
            "--data-root", self.folder / "data",
            "--exec-root", self.folder / "exec",
            "--pidfile", self.folder / "docker.pid",
            "--bridge", self.bridge,
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
        ]  # fmt: skip

    def kill(self) -> None:
        """SIGKILL, as a crash: the shims of running containers stay behind.

        The engine's own containerd dies with it. Its note goes too: where nobody reaps orphans, the next dockerd would
        take the dead one for a living one, never start its own, and give up after fifteen seconds.
        """
        self._end(signal.SIGKILL)
        note = self.folder / "exec" / "containerd" / "containerd.pid"
        if note.exists():
            processes.end(int(note.read_text()), first=signal.SIGKILL)
            note.unlink()

    def stop(self) -> None:
        """End dockerd and its containers; the data stays for another `start`."""
        self._end(signal.SIGTERM)

    def _end(self, first: signal.Signals) -> None:
        if self.process is not None:
            processes.end(self.process.pid, timeout=STOP_TIMEOUT, first=first)
            self.process.wait()
        self.process = None

    def remove(self) -> None:
        """Kill the engine, end and unmount what its containers left, and delete the data."""
        self.kill()
        for shim in self._shims():
            for pid in [*processes.children(shim), shim]:
                processes.end(pid, first=signal.SIGKILL)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (mount := line.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", mount], capture_output=True)
        self._remove_networks()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _shims(self) -> list[int]:
        """The keepers of containers: they outlive dockerd, and name its folder in their arguments."""
        mark = f"{self.folder / 'exec'}/"
        return [pid for pid, words in processes.command_lines() if "containerd-shim" in words[0] and mark in words[-1]]
