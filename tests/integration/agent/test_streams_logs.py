"""Logs of real containers through a real tunnel, read out of the engine's files and through the engine alone."""

import asyncio
import json
import secrets
import time
from datetime import UTC, datetime

import pytest
from tests.support.log_reader import LogReader
from tests.testbed import images

from towline.agent.policy import LocalPolicy
from towline.agent.streams import log_files
from towline.tunnel.errors import TargetRefused
from towline.wire.streams import Logs

pytestmark = pytest.mark.docker
TIMEOUT = 60.0


@pytest.fixture(params=["files", "engine"])
def way(request, monkeypatch):
    """Run a test twice: as an agent that may read the engine's files, and as one that may not."""
    if request.param == "engine":

        def closed(path, stack):
            raise PermissionError(13, "permission denied", str(path))

        monkeypatch.setattr(log_files, "_open_all", closed)
    return request.param


@pytest.fixture
def project():
    return f"h9{secrets.token_hex(4)}"


@pytest.fixture
def run(run_container, project):
    """Run a shell script in a container of the project: `run("web", "echo hello")`."""

    def run(service: str, script: str, *options: str) -> str:
        labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
        words = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
        return run_container("sh", "-c", script, options=(*words, *options))

    return run


@pytest.fixture
def logs(streams_bed):
    async def logs(**target) -> LogReader:
        return LogReader(await streams_bed.session.open_stream(Logs(**target)))

    return logs


async def docker(*words: str) -> str:
    return await asyncio.to_thread(images.docker, *words)


async def test_both_outputs_come_whole_and_in_order(way, run, project, logs):
    container = run("web", "echo one; echo two >&2; printf 'bytes \\377\\033[31m\\000\\r\\n'; echo; printf unended")
    await docker("wait", container)
    reader = await (await logs(project=project)).to_end()
    assert [text for _, text in reader.lines if text != b"two"] == [
        b"one",
        "bytes \ufffd\x1b[31m\x00\r".encode(),
        b"",
        b"unended",
    ]
    assert reader.kinds_of(b"two") == {2}
    assert reader.sources == {1: (container, "web")}


async def test_line_longer_than_an_entry_is_whole_and_one_over_the_limit_is_cut(way, run, project, logs):
    script = "head -c 40000 /dev/zero | tr '\\0' a; echo; head -c 300000 /dev/zero | tr '\\0' b; echo; echo end"
    await docker("wait", run("web", script))
    reader = await (await logs(project=project)).to_end()
    long, cut, end = [text for _, text in reader.lines]
    assert long == b"a" * 40000
    assert cut.startswith(b"b" * 60000)
    assert cut.endswith(b"b (line cut)")
    assert len(cut) < 65536
    assert end == b"end"


async def test_log_of_a_terminal_has_plain_lines(way, run, project, logs):
    script = "echo one; head -c 40000 /dev/zero | tr '\\0' a; echo; printf 'a\\rb\\n'"
    await docker("wait", run("web", script, "-t"))
    reader = await (await logs(project=project)).to_end()
    assert [text for _, text in reader.lines] == [b"one", b"a" * 40000, b"a\rb"]


async def test_tail_since_until_and_text_choose_lines(way, run, project, logs):
    await docker("wait", run("web", "for i in 1 2 3 4 5 6; do echo line $i; usleep 2000; done"))
    stamps = [stamp.decode() for stamp, _ in (await (await logs(project=project)).to_end()).lines]
    assert (await (await logs(project=project, tail=2)).to_end()).words == ["line 5", "line 6"]
    assert (await (await logs(project=project, tail=0)).to_end()).words == []
    assert (await (await logs(project=project, since=stamps[3])).to_end()).words == ["line 5", "line 6"]
    assert (await (await logs(project=project, until=stamps[1])).to_end()).words == ["line 1", "line 2"]
    assert (await (await logs(project=project, until=stamps[1], follow=True)).to_end()).words == ["line 1", "line 2"]
    assert (await (await logs(project=project, grep="e 4")).to_end()).words == ["line 4"]
    assert (await (await logs(project=project, grep=stamps[0][:4])).to_end()).words == []


async def test_services_and_containers_choose_sources(run, project, logs):
    one, two, three = (run(name, f"echo {name}") for name in ("one", "two", "three"))
    for container in (one, two, three):
        await docker("wait", container)
    assert sorted((await (await logs(project=project)).to_end()).words) == ["one", "three", "two"]
    assert sorted((await (await logs(project=project, services=("one", "two"))).to_end()).words) == ["one", "two"]
    assert (await (await logs(containers=(three[:12], three))).to_end()).words == ["three"]


async def test_reader_that_breaks_off_anywhere_resumes_without_loss_or_doubles(way, run, project, logs):
    script = "(for i in $(seq 3000); do echo out $i; done) & (for i in $(seq 3000); do echo err $i >&2; done); wait"
    await docker("wait", run("web", script))
    whole = (await (await logs(project=project)).to_end()).lines
    assert len(whole) == 6000
    got, cursors, rounds = [], {}, 0
    async with asyncio.timeout(TIMEOUT):
        while len(got) < len(whole):
            reader = await logs(project=project, cursors=cursors, tail=5 if cursors else -1)
            limit = secrets.randbelow(900) + 1
            taken = await reader.take(limit)
            got += taken
            cursors = reader.cursors_after(taken, cursors)
            reader.stream.abort("cut")
            rounds += 1
    assert rounds > 5
    assert [text for _, text in got] == [text for _, text in whole]


async def test_followed_log_goes_on_through_restarts_without_loss_or_doubles(way, run, project, logs):
    container = run("web", "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) > /n; echo run $n; exec sleep 1000")
    reader = await logs(project=project, follow=True)
    await reader.until("run 0")
    for number in (1, 2, 3):
        await docker("restart", "-t", "0", container)
        await reader.until(f"run {number}")
    assert reader.words == ["run 0", "run 1", "run 2", "run 3"]
    assert reader.events == ["started again"] * 3
    await docker("rm", "-f", container)
    await reader.until_event("was removed")


async def test_containers_that_start_later_join_from_their_first_line(run, project, logs):
    run("one", "echo first; exec sleep 1000")
    reader = await logs(project=project, follow=True, tail=0)
    await reader.until_sources(1)
    run("two", "echo second; exec sleep 1000")
    await reader.until("second")
    assert "first" not in reader.words
    assert sorted(service for _, service in reader.sources.values()) == ["one", "two"]


async def test_project_that_is_not_there_yet_can_be_followed(run, project, logs):
    reader = await logs(project=project, follow=True)
    run("web", "echo here; exec sleep 1000")
    await reader.until("here")


async def test_restart_after_an_empty_tail_shows_only_the_new_run(way, run, project, logs):
    container = run("web", "n=$(cat /n 2>/dev/null || echo 0); echo $((n+1)) > /n; echo run $n; exec sleep 1000")
    async with asyncio.timeout(TIMEOUT):
        while "run 0" not in await docker("logs", container):
            continue
    reader = await logs(project=project, follow=True, tail=0)
    await reader.until_sources(1)
    await docker("restart", "-t", "0", container)
    await reader.until("run 1")
    assert reader.words == ["run 1"]


async def test_lines_arrive_within_100_ms_of_their_writing(run, project, logs):
    run("web", "i=0; while [ $i -lt 60 ]; do echo tick; usleep 25000; i=$((i+1)); done; echo end; exec sleep 1000")
    reader = await logs(project=project, follow=True, tail=0)
    ages = []
    async with asyncio.timeout(TIMEOUT):
        while "end" not in reader.words:
            for stamp, _ in await reader.more():
                ages.append(time.time() - datetime.fromisoformat(stamp[:26].decode()).replace(tzinfo=UTC).timestamp())
    assert len(ages) > 40
    assert sorted(ages)[int(len(ages) * 0.95)] < 0.1


async def test_slow_reader_holds_the_log_back(run, project, logs, streams_bed):
    await docker("wait", run("web", "yes 0123456789012345678901234567890123456789 | head -c 8000000"))
    reader = await logs(project=project)
    await asyncio.wait({streams_bed.pair.owner.spawn("idle", asyncio.sleep(1.0))})
    assert streams_bed.router.open == 1
    assert streams_bed.pair.agent.mux.yamux.streams[0].queued_bytes < 256 * 1024
    await reader.to_end()
    assert len(reader.lines) == 8_000_000 // 41 + 1


async def test_leaving_a_followed_log_frees_the_agent(run, project, logs, streams_bed):
    run("web", "echo here; exec sleep 1000")
    reader = await logs(project=project, follow=True)
    await reader.until("here")
    await reader.stream.aclose()
    async with asyncio.timeout(TIMEOUT):
        while streams_bed.router.open:
            await asyncio.sleep(0)


async def test_log_that_cannot_be_read_says_why_and_harms_no_other(run, project, logs):
    for container in (run("mute", "echo x", "--log-driver", "none"), run("web", "echo here")):
        await docker("wait", container)
    reader = await (await logs(project=project)).to_end()
    assert reader.words == ["here"]
    assert any("does not support reading" in event for event in reader.events)


async def test_rotated_away_lines_are_told_as_a_gap(way, run, project, logs):
    script = "echo first; cat /dev/zero | head -c 400000 | tr '\\0' a | fold -w 100; echo; echo last"
    container = run("web", script, "--log-opt", "max-size=20k", "--log-opt", "max-file=2")
    await docker("wait", container)
    cursor = "2026-01-01T00:00:00.000000001Z/1"
    reader = await (await logs(project=project, cursors={container: cursor})).to_end()
    assert reader.events == ["lines are missing here: the engine has thrown them away"]
    assert reader.words[-1] == "last"
    assert "first" not in reader.words


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ({"project": "h9-no-such-project"}, "not_found"),
        ({"containers": ("h9-no-such-container",)}, "not_found"),
        ({"containers": ("../images",)}, "bad_request"),
        ({}, "bad_request"),
        ({"project": "x", "since": "yesterday"}, "bad_request"),
        ({"project": "x", "cursors": {"id": "nonsense"}}, "bad_request"),
    ],
)
async def test_target_that_makes_no_sense_is_refused(logs, target, code):
    with pytest.raises(TargetRefused) as refused:
        await logs(**target)
    assert refused.value.code == code


async def test_policy_forbids_logs(logs, streams_bed):
    streams_bed.policy = LocalPolicy(capabilities=("compose",))
    with pytest.raises(TargetRefused) as refused:
        await logs(project="shop")
    assert refused.value.code == "forbidden"


async def test_json_of_events_has_text_and_time(run, project, logs):
    container = run("web", "exec sleep 1000")
    reader = await logs(containers=(container,), follow=True)
    await reader.until_sources(1)
    await docker("rm", "-f", container)
    await reader.to_end()
    (event,) = [json.loads(body) for body in reader.raw_events]
    assert event["text"] == "was removed"
    assert event["at"].endswith("Z")
    assert abs(datetime.fromisoformat(event["at"]).timestamp() - time.time()) < 60
