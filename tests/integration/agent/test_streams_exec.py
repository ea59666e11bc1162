"""Commands in real containers, through a real tunnel."""

import asyncio
import json

import pytest
from tests.testbed import images

from towline.agent.policy import ExecRules, LocalPolicy
from towline.aio.streams import StreamError
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import (
    CLOSE_STDIN,
    EXIT,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    Exec,
    FrameReader,
    encode_frame,
)

pytestmark = pytest.mark.docker
TIMEOUT = 30.0


class Terminal:
    """The opener's end of an exec stream."""

    def __init__(self, stream) -> None:
        self.stream = stream
        self.out = b""
        self.errors = b""
        self.exit: dict | None = None
        self._reader = FrameReader()

    async def send(self, kind: int, body: bytes = b"") -> None:
        await self.stream.write(encode_frame(kind, body))

    async def type(self, text: str) -> None:
        await self.send(STDIN, text.encode())

    async def until(self, text: bytes) -> bytes:
        """Read until the output holds a text; returns what came up to it and forgets it."""
        async with asyncio.timeout(TIMEOUT):
            while text not in self.out:
                assert await self._more(), f"the stream ended; output was {self.out!r}, exit {self.exit}"
        before, _, self.out = self.out.partition(text)
        return before + text

    async def end(self) -> dict:
        async with asyncio.timeout(TIMEOUT):
            while await self._more():
                continue
        assert self.exit is not None
        return self.exit

    async def _more(self) -> bool:
        data = await self.stream.read()
        for frame in self._reader.feed(data):
            if frame.kind == STDOUT:
                self.out += frame.body
            elif frame.kind == STDERR:
                self.errors += frame.body
            elif frame.kind == EXIT:
                self.exit = json.loads(frame.body)
        return bool(data)


@pytest.fixture
def container(run_container):
    return run_container("sleep", "1000")


@pytest.fixture
def start(streams_bed):
    async def start(container: str, *argv: str, **options) -> Terminal:
        return Terminal(await streams_bed.session.open_stream(Exec(container=container, argv=argv, **options)))

    return start


async def processes(container: str) -> str:
    return await asyncio.to_thread(images.docker, "top", container, "-eo", "pid,args")


async def until_gone(container: str, text: str) -> None:
    async with asyncio.timeout(TIMEOUT):
        while text in await processes(container):
            continue


async def test_outputs_are_told_apart_and_the_exit_code_comes_last(start, container):
    terminal = await start(container, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert await terminal.end() == {"code": 7}
    assert (terminal.out, terminal.errors) == (b"out\n", b"err\n")


async def test_answer_says_what_was_opened(start, container):
    terminal = await start(container, "true")
    info = terminal.stream.answer.info
    assert (info["container"], info["image"], info["command"]) == (container, images.BASE, "true")
    assert await terminal.end() == {"code": 0}


async def test_input_ends_by_itself_while_output_goes_on(start, container):
    terminal = await start(container, "sh", "-c", "wc -c; echo done")
    for _ in range(40):
        await terminal.send(STDIN, b"x" * 50_000)
    await terminal.send(CLOSE_STDIN)
    assert await terminal.end() == {"code": 0}
    assert terminal.out == b"2000000\ndone\n"


async def test_end_of_the_openers_direction_ends_input_without_a_terminal(start, container):
    terminal = await start(container, "cat")
    await terminal.type("hello")
    await terminal.stream.write_eof()
    assert await terminal.end() == {"code": 0}
    assert terminal.out == b"hello"


async def test_shell_has_a_terminal_of_the_size_that_was_asked_for(start, container):
    terminal = await start(container, tty=True, columns=101, rows=33)
    await terminal.type("until [ \"$(stty size)\" = '33 101' ]; do :; done; echo si''ze $(stty size)\n")
    await terminal.until(b"size 33 101")
    await terminal.send(RESIZE, b'{"columns": 77, "rows": 22}')
    await terminal.type("until [ \"$(stty size)\" = '22 77' ]; do :; done; echo si''ze $(stty size) $TERM\n")
    await terminal.until(b"size 22 77 xterm-256color")
    await terminal.type("exit 3\n")
    assert await terminal.end() == {"code": 3}


async def test_control_c_interrupts_the_command_and_the_shell_goes_on(start, container):
    terminal = await start(container, tty=True)
    # Said by the command itself: before that, the shell may not have put it into the foreground yet.
    await terminal.type("sh -c 'echo g\"\"o; exec sleep 1000'\n")
    await terminal.until(b"go\r\n")
    await terminal.type("\x03")
    await terminal.type("echo aft''er $?\n")
    await terminal.until(b"after 130")
    await terminal.type("exit\n")
    await terminal.end()


async def test_user_folder_and_environment_are_what_was_asked_for(start, container):
    terminal = await start(
        container, "sh", "-c", "id -un; pwd; echo $COLOUR", user="nobody", workdir="/tmp", environment={"COLOUR": "red"}
    )
    await terminal.end()
    assert terminal.out == b"nobody\n/tmp\nred\n"


async def test_container_without_a_shell_says_so(start, run_container):
    image = "towline-test/h9-bare:1"
    images.docker("import", "--change", 'CMD ["/busybox", "sleep", "1000"]', "-", image, stdin=bare_root())
    terminal = await start(run_container(image=image))
    ended = await terminal.end()
    assert ended["code"] in (126, 127)
    assert "has no shell" in ended["error"]
    assert terminal.out == b""


def bare_root() -> bytes:
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(images.BUSYBOX.resolve(), "busybox")
    return buffer.getvalue()


async def test_command_that_is_not_there_is_named(start, container):
    terminal = await start(container, "no-such-command")
    ended = await terminal.end()
    assert ended["code"] in (126, 127)
    assert "no-such-command" in ended["error"]


@pytest.mark.parametrize("tty", [True, False])
async def test_everything_the_command_started_is_hung_up_when_the_opener_leaves(start, container, tty):
    terminal = await start(container, "sh", "-c", "echo go; sleep 7654; echo never", tty=tty)
    await terminal.until(b"go")
    assert "sleep 7654" in await processes(container)
    terminal.stream.abort("closed the laptop")
    await until_gone(container, "sleep 7654")
    assert "sleep 1000" in await processes(container)


async def test_terminal_that_is_closed_ends_its_shell(start, container):
    terminal = await start(container, "sh", "-c", "echo go; exec sleep 7654", tty=True)
    await terminal.until(b"go")
    await terminal.stream.aclose()
    await until_gone(container, "sleep 7654")


async def test_end_of_the_container_ends_the_stream(start, container):
    terminal = await start(container, "sh", "-c", "echo go; sleep 7654")
    await terminal.until(b"go")
    await asyncio.to_thread(images.docker, "kill", container)
    assert (await terminal.end())["code"] != 0


async def test_output_waits_for_a_slow_reader(start, container, streams_bed):
    terminal = await start(container, "sh", "-c", "head -c 20000000 /dev/zero; echo end")
    total = 0
    async with asyncio.timeout(TIMEOUT):
        while not terminal.exit:
            await terminal._more()
            total += len(terminal.out)
            terminal.out = b""
    assert total == 20_000_004


async def test_unknown_and_stopped_containers_are_not_found(start, container):
    with pytest.raises(TargetRefused, match="No such container") as refused:
        await start("h9-no-such-container")
    assert refused.value.code == "not_found"
    images.docker("kill", container)
    with pytest.raises(TargetRefused, match="does not run: exited") as refused:
        await start(container)
    assert refused.value.code == "not_found"


async def test_name_that_is_a_path_reaches_no_other_part_of_the_engine(start):
    with pytest.raises(TargetRefused) as refused:
        await start("../images")
    assert refused.value.code == "bad_request"


async def test_policy_forbids_commands_in_other_projects(start, streams_bed, container):
    streams_bed.policy = LocalPolicy(exec=ExecRules(projects=("shop",)))
    with pytest.raises(TargetRefused, match="does not allow commands") as refused:
        await start(container, "true")
    assert refused.value.code == "forbidden"


async def test_frame_of_an_unknown_kind_ends_the_stream(start, container):
    terminal = await start(container, "cat")
    await terminal.stream.write(b"\xff" * 7)
    with pytest.raises((StreamError, AssertionError)):
        await terminal.end()
