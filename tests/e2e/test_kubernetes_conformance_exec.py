"""Conformance 26 to 36: commands, shells, copies, and many of them at once; by WebSocket and by SPDY."""

from __future__ import annotations

import hashlib
import os
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.support import javascript
from tests.support import kubernetes_objects as objects
from tests.support.exec_socket import ExecSocket
from tests.support.kubectl import Going
from tests.support.kubectl_streams import a_shell_ends_with_its_code, a_shell_follows_its_terminal, digests, terminal
from tests.support.kubernetes_stack import Stack, User
from tests.testbed.kubectl import VERSIONS

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

MEBIBYTE = 1024 * 1024
SPDY_ONLY = "1.28"
BOTH = (SPDY_ONLY, "1.37")
QUIET_SECONDS = 20.0
# A kubelet closes its connection once the command has ended, and sometimes resets it: then the API server loses what
# it has not passed on. Directly, too: 1 of 60 copies of 50 MiB on a busy machine, none of 150 with this second.
ECHO_ALL = ("sh", "-c", "cat; sleep 1")


@pytest.fixture(scope="module")
def home(stack: Stack) -> Iterator[str]:
    """A namespace with a pod that has a shell, and one that answers its own input."""
    with stack.empty_namespace("k8-exec") as name:
        echo = objects.pod("echo", "sh", "-c", "echo ready; while read line; do echo got $line; done")
        echo["spec"]["containers"][0] |= {"stdin": True}
        screen = objects.pod("screen", "sh")
        screen["spec"]["containers"][0] |= {"stdin": True, "tty": True}
        objects.apply(stack.direct(), name, objects.pod("shell"), echo, screen)
        objects.wait_for_pods(stack.direct(), name, "pod/shell", "pod/echo", "pod/screen")
        yield name


@pytest.fixture(scope="module")
def idle(home: str, ada: User) -> Iterator[tuple[float, list[Going]]]:
    """Shells on which nothing happens but pings, from the beginning of this module on."""
    words = ("-n", home, "exec", "-i", "shell", "--", "sh", "-c", "echo open; cat")
    with ada.client(BOTH[0]).going(*words) as old, ada.client(BOTH[1]).going(*words) as new:
        for each in (old, new):
            each.line("open")
        yield time.monotonic(), [old, new]


# 26, 29
@pytest.mark.parametrize("version", VERSIONS)
def test_output_errors_and_exit_codes_come_apart(version: str, idle: object, home: str, ada: User) -> None:
    client = ada.client(version)
    good = client.run("-n", home, "exec", "shell", "--", "sh", "-c", "echo out; echo err >&2")
    assert (good.returncode, good.stdout, good.stderr) == (0, "out\n", "err\n")
    bad = client.run("-n", home, "exec", "shell", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (bad.returncode, bad.stdout) == (7, "out\n")
    assert bad.stderr == "err\ncommand terminated with exit code 7\n"


# 27, 29
@pytest.mark.parametrize("version", BOTH)
def test_fifty_megabytes_go_in_and_come_back(version: str, home: str, ada: User) -> None:
    data = os.urandom(MEBIBYTE) * 50
    code, out, err = ada.client(version).raw("-n", home, "exec", "-i", "shell", "--", *ECHO_ALL, stdin=data)
    assert code == 0, err
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


# 28, 29
@pytest.mark.parametrize("version", VERSIONS)
def test_shell_on_a_terminal_has_its_size_and_its_keys(version: str, home: str, ada: User) -> None:
    with terminal(ada.client(version), "-n", home, "exec", "-it", "shell", "--", "sh") as screen:
        a_shell_follows_its_terminal(screen)
        screen.type("stty raw -echo; echo go$((1+1)); head -c 2 | od -An -tx1; stty sane\n")
        screen.shows("go2")
        screen.type("\x03\x1a")  # Ctrl-C and Ctrl-Z go there as they are
        screen.shows("03 1a")
        a_shell_ends_with_its_code(screen)


# 33
@pytest.mark.parametrize("version", BOTH)
def test_attach_joins_a_process_that_runs(version: str, home: str, ada: User) -> None:
    with ada.client(version).going("-n", home, "attach", "-i", "echo") as attached:
        attached.write(f"from {version}\n".encode())
        attached.line(f"got from {version}")


@pytest.mark.parametrize("version", BOTH)
def test_attach_on_a_terminal_shares_the_screen(version: str, home: str, ada: User) -> None:
    with terminal(ada.client(version), "-n", home, "attach", "-it", "screen") as screen:
        screen.type("echo one$((1+1))three\n")
        screen.shows("one2three")


@pytest.mark.parametrize("version", VERSIONS)
def test_debug_adds_a_container_and_joins_it(version: str, home: str, ada: User) -> None:
    client, name = ada.client(version), f"bug-{version.replace('.', '-')}"
    words = ("debug", "-i", "shell", f"--container={name}", "--image=localhost/busybox:1", "--image-pull-policy=Never")
    with client.going("-n", home, *words, "--", "sh", "-c", "while read x; do echo found $x; done") as debug:
        debug.write(b"it\n")
        debug.line("found it")


@pytest.mark.parametrize("version", VERSIONS)
def test_run_starts_a_pod_joins_it_and_removes_it(version: str, home: str, ada: User) -> None:
    client, name = ada.client(version), f"run-{version.replace('.', '-')}"
    words = ("run", name, "-i", "--rm", "--restart=Never", "--image=localhost/busybox:1", "--image-pull-policy=Never")
    # The runtime itself loses the last words of a container that ends at once: directly, too, in 1 of 40 runs.
    script = "read x; echo read $x; sleep 1"
    done = client.run("-n", home, *words, "--", "sh", "-c", script, stdin="input\n", timeout=60)
    assert "read input" in done.stdout, (done.stdout, done.stderr)
    client.fail("-n", home, "get", "pod", name, says="not found")


# 34
@pytest.mark.parametrize("version", BOTH)
def test_copies_arrive_whole_whatever_their_names(version: str, home: str, ada: User) -> None:
    client = ada.client(version)
    tree = client.home / "tree"
    (tree / "a folder").mkdir(parents=True)
    (tree / "a folder" / "blåbær und süß.txt").write_text("small\n")
    (tree / "big.bin").write_bytes(os.urandom(MEBIBYTE) * 20)
    client.succeed("-n", home, "cp", "tree", f"shell:/tmp/{version}", timeout=60)
    client.succeed("-n", home, "cp", "--retries=3", f"shell:/tmp/{version}", "back", timeout=60)
    assert digests(client.home / "back") == digests(tree)


# 35
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_python_client_runs_commands(home: str, ada: User) -> None:
    from kubernetes import client, config
    from kubernetes.stream import stream

    api = client.CoreV1Api(config.new_client_from_config(str(ada.client().config)))
    said = stream(
        api.connect_get_namespaced_pod_exec, "shell", home, command=["sh", "-c", "echo out; echo err >&2; exit 3"],
        stdout=True, stderr=True, _preload_content=False,
    )  # fmt: skip
    said.run_forever(timeout=20)
    said.sock.shutdown()  # `close` leaves the socket open once the other side has closed
    assert (said.read_stdout(), said.read_stderr(), said.returncode) == ("out\n", "err\n", 3)


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
def test_both_channel_protocols_are_spoken(protocol: str, home: str, ada: User) -> None:
    with ExecSocket(ada, home, "shell", "sh", "-c", "read x; echo $x; exit 4", protocol=protocol) as shell:
        assert shell.protocol == protocol
        shell.send(b"word\n")
        shell.until(b"word")
        assert shell.status()["details"]["causes"] == [{"reason": "ExitCode", "message": "4"}]
    if protocol.startswith("v5"):
        with ExecSocket(ada, home, "shell", "wc", "-c", protocol=protocol) as count:
            count.send(b"12345")
            count.end_input()
            count.until(b"5\n")
            assert count.status()["status"] == "Success"


def test_javascript_client_runs_commands(home: str, ada: User) -> None:
    said = javascript.run(ada.client(), "exec", home, "shell", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert said == {"stdout": "out\n", "stderr": "err\n", "code": "3"}


# 36
def test_fifty_shells_are_quick_while_one_floods(home: str, ada: User) -> None:
    with ExecSocket(ada, home, "shell", "yes"), ThreadPoolExecutor(50) as threads:
        shells = list(threads.map(lambda _: ExecSocket(ada, home, "shell", "cat"), range(50)))
        times: list[float] = []

        def talk(shell: ExecSocket) -> None:
            for number in range(5):
                word = f"{number}-{threading.get_ident()}\n".encode()
                began = time.monotonic()
                shell.send(word)
                shell.until(word)
                times.append(time.monotonic() - began)

        try:
            for shell in shells:
                talk(shell)
            alone = statistics.median(times)
            list(threads.map(talk, shells))
        finally:
            for shell in shells:
                shell.close()
    assert len(times) == 500
    assert alone < 0.05


# 31
def test_quiet_shells_stay_open(idle: tuple[float, list[Going]]) -> None:
    began, shells = idle
    threading.Event().wait(max(0.0, QUIET_SECONDS - (time.monotonic() - began)))
    for shell in shells:
        shell.write(b"late\n")
        shell.line("late", timeout=5)


# 32
@pytest.mark.parametrize("version", BOTH)
def test_shell_ends_with_an_error_when_the_agent_is_killed(version: str, home: str, ada: User, stack: Stack) -> None:
    with ada.client(version).going("-n", home, "exec", "-i", "shell", "--", "cat") as shell:
        shell.write(b"hello\n")
        shell.line("hello")
        stack.kill("agent")
        began = time.monotonic()
        try:
            code = shell.wait(20)
            assert time.monotonic() - began < 10
            assert code != 0, "kubectl takes any end of a SPDY connection for success, unless it is told"
            assert shell.stderr
            assert version != SPDY_ONLY or "the connection to the cluster broke" in shell.stderr
        finally:
            stack.start_agent()
