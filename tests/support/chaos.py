"""A server, an agent and the line between them as processes of their own, each of which a test may kill at any moment.

    with Bed(folder, docker_host) as bed:
        bed.kill("agent")
        bed.start("agent")

The line is a TCP relay that can be cut (reset) or made silent. Not here: what must be true afterwards (`oracle.py`).
"""

import contextlib
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
from tests.support.product import wait_for
from tests.testbed import processes

USERNAME, PASSWORD = "ada", "correct horse battery staple"
HOST_NAME = "site"
START_TIMEOUT = 60.0
CALL_TIMEOUT = 10.0
# As many attempts as a server needs that is killed and comes back within some ten seconds.
CALL_PATIENCE = 40.0
RETRY_PAUSE = 0.1
CHUNK = 65_536
# Linger on, zero seconds: closing sends a reset, as a box in between that forgot the connection does.
RESET = struct.pack("ii", 1, 0)


class Relay:
    """Passes TCP connections on to a port. `cut` resets them all and lets none in; `silence` keeps them and is mute."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self.target = target
        self.host = host
        self._listener = socket.create_server((host, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._is_cut = False
        self._is_open = threading.Event()
        self._is_open.set()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection; new ones are reset at once."""
        with self._lock:
            self._is_cut = True
            pairs = list(self._pairs)
        for pair in pairs:
            _reset(*pair)

    def silence(self) -> None:
        """Pass nothing on, in neither direction; connections stay open."""
        self._is_open.clear()

    def heal(self) -> None:
        """Pass everything on again, also what waited."""
        self._is_cut = False
        self._is_open.set()

    def close(self) -> None:
        self._ended = True
        self.heal()
        self.cut()
        # Closing alone wakes nobody who waits in accept, and leaves the port open.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            try:
                outer = socket.create_connection((self.host, self.target), timeout=CALL_TIMEOUT)
                outer.settimeout(None)
            except OSError:
                _reset(inner)
                continue
            with self._lock:
                self._pairs.add((inner, outer))
                refused = self._is_cut
            if refused:
                _reset(inner, outer)
            threading.Thread(target=self._pass_on, args=(inner, outer), daemon=True).start()

    def _pass_on(self, inner: socket.socket, outer: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as selector:
            selector.register(inner, selectors.EVENT_READ, outer)
            selector.register(outer, selectors.EVENT_READ, inner)
            while selector.get_map():
                for key, _ in selector.select():
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(CHUNK)
                    self._is_open.wait()
                    if data:
                        sink.sendall(data)
                    else:
                        selector.unregister(source)
                        sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._pairs.discard((inner, outer))
        _reset(inner, outer)


def _reset(*ends: socket.socket) -> None:
    """Close at once; `shutdown` first, since another thread may be reading."""
    for end in ends:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.shutdown(socket.SHUT_RDWR)
        end.close()


class Keeper:
    """One process that is killed and started again; its whole output is in one log."""

    def __init__(self, name: str, argv: list[str], log: Path, environment: dict[str, str]) -> None:
        self.name = name
        self.argv = argv
        self.log = log
        self.environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.process = processes.spawn(self.argv, self.log, env=self.environment)

    def kill(self) -> None:
        """SIGKILL to this one process: what it has started in sessions of their own lives on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, timeout: float = 40.0) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()


class Bed:
    """The product in pieces, with a user, and one host that joined by the relay.

    Args: docker_host: the host's engine. server: further settings of the server, as environment variables' names
    without their prefix. agent: the same for the agent.
    """

    def __init__(
        self,
        folder: Path,
        docker_host: str,
        *,
        server: dict[str, str] | None = None,
        agent: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.docker_host = docker_host
        self.port = processes.free_port()
        self.relay = Relay(self.port)
        self.data_folder = folder / "server"
        self.state_folder = folder / "agent"
        password_file = folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o600)
        own = {
            "DATA_FOLDER": str(self.data_folder),
            "LISTEN": f"127.0.0.1:{self.port}",
            "AGENT_URLS": f"https://127.0.0.1:{self.relay.port}",
            "ADMIN_USERNAME": USERNAME,
            "ADMIN_PASSWORD_FILE": str(password_file),
            "API_RATE": "500",
            "API_BURST": "1000",
            **(server or {}),
        }
        towline = str(Path(sys.executable).parent / "towline")
        self.server = Keeper(
            "server", [towline, "server", "run"], folder / "server.log",
            {f"TOWLINE_SERVER_{name}": value for name, value in own.items() if value},
        )  # fmt: skip
        self.agent_environment = {
            "TOWLINE_AGENT_STATE_FOLDER": str(self.state_folder),
            "TOWLINE_AGENT_DOCKER_HOST": docker_host,
            **{f"TOWLINE_AGENT_{name}": value for name, value in (agent or {}).items()},
        }
        self.agent = Keeper("agent", [towline, "agent", "run"], folder / "agent.log", self.agent_environment)
        self.token = ""
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=CALL_TIMEOUT)

    def __enter__(self) -> Self:
        try:
            self.start_server()
            self.sign_in()
            self.join()
            self.agent.start()
            self.wait_for_host()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.agent.stop()
        self.server.stop()
        self.relay.close()
        self._client.close()

    # -- the server ----------------------------------------------------------------------------------

    def start_server(self) -> None:
        """Start it and wait until it answers."""
        self.server.start()
        self.wait(self.answers, "the server to answer", START_TIMEOUT)

    def answers(self) -> bool:
        """Tell whether the server answers at all; raises what a refused connection raises."""
        assert self.server.process is None or self.server.process.poll() is None, "the server ended"
        return self._client.get("/healthz").status_code == 200

    def sign_in(self) -> None:
        body = {"username": USERNAME, "password": PASSWORD, "client": "cli", "name": "chaos"}
        self.token = self.call("POST", "/login", json=body)["token"]
        self._client.headers["authorization"] = f"Bearer {self.token}"

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request, whatever comes back."""
        return self._client.request(method, path if path.startswith("/") else f"/api/v1/{path}", **more)

    def call(self, method: str, path: str, **more: Any) -> Any:
        """A request of the API that is sent again while the server is away: only what is safe to repeat."""
        deadline = time.monotonic() + CALL_PATIENCE
        while True:
            try:
                answer = self._client.request(method, f"/api/v1{path}", **more)
                if answer.status_code != 503:
                    break
                problem = answer.text
            except httpx.TransportError as error:
                problem = repr(error)
            assert time.monotonic() < deadline, f"{method} {path} got no answer: {problem}"
            time.sleep(RETRY_PAUSE)
        assert answer.is_success, f"{method} {path} -> {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    # -- the host ------------------------------------------------------------------------------------

    def join(self) -> str:
        """Make a join token and redeem it, as the copied line does. Returns: the token."""
        made = self.call("POST", "/join-tokens", json={"cluster_name": HOST_NAME})
        words = ["join", "--server", f"https://127.0.0.1:{self.relay.port}", "--fingerprint", made["fingerprint"]]
        done = subprocess.run(
            [*self.agent.argv[:2], *words, "--token-file", "-"], env={**os.environ, **self.agent_environment},
            input=made["token"].encode(), capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        token: str = made["token"]
        return token

    def cluster(self) -> Any:
        return self.call("GET", f"/clusters/{HOST_NAME}")

    def is_connected(self) -> bool:
        return bool(self.cluster()["link"]["connected"])

    def wait_for_host(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until the host is connected and Docker answers there."""

        def well() -> bool:
            shown = self.cluster()
            assert shown["link"]["connected"], shown["link"]
            ready = {each["name"]: each for each in shown["capabilities"]}
            assert ready.get("compose", {}).get("ready"), shown["capabilities"]
            return True

        self.wait(well, "the host to be connected and ready", timeout)

    # -- deploys -------------------------------------------------------------------------------------

    def deploy(self, project: str, compose: str, *, key: str = "", **more: Any) -> Any:
        """Order a deploy, again and again under the same key until the server took it. Returns: its job."""
        options = {"settle_seconds": 0.3, "timeout": 120, **more.pop("options", {})}
        body = {"compose": compose, "options": options, **more}
        path = f"/clusters/{HOST_NAME}/deployments/{project}/revisions"
        return self.call("POST", path, json=body, headers={"idempotency-key": key} if key else {})["job"]

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/jobs/{job_id}")

    def ended(self, job_id: str, timeout: float = 120.0) -> Any:
        """Wait for a job's end. Returns: the job."""

        def over() -> Any:
            job = self.job(job_id)
            assert job["finished_at"], f"{job['state']} {job['stage']}"
            return job

        return self.wait(over, f"the end of {job_id}", timeout)

    def deployment(self, project: str) -> Any:
        return self.call("GET", f"/clusters/{HOST_NAME}/deployments/{project}")

    # -- waiting -------------------------------------------------------------------------------------

    def wait(self, condition: Callable[[], Any], what: str, timeout: float) -> Any:
        """Wait for a condition; when it does not come, show both logs."""
        try:
            return wait_for(condition, what, timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None

    def logs(self) -> str:
        """The ends of both logs, for failures."""
        return "\n".join(f"-- {each.name}:\n{processes.tail(each.log)}" for each in (self.server, self.agent))


@contextlib.contextmanager
def at_moment(seconds: float, strike: Callable[[], None]) -> Iterator[None]:
    """Strike so many seconds after the block began, whatever the block is doing; leaves when both are over."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            strike()
        except BaseException as error:
            failures.append(error)

    timer = threading.Timer(seconds, run)
    timer.start()
    try:
        yield
    finally:
        timer.join()
    if failures:
        raise failures[0]
