import gzip
import json

import pytest

from towline.agent.streams import log_files
from towline.agent.streams.log_lines import FileCutter
from towline.agent.streams.log_times import stamp

SECONDS = 3600


def time(number: int) -> str:
    return f"2026-11-21T10:{number // 60:02}:{number % 60:02}.5Z"


def entries(numbers) -> bytes:
    lines = [json.dumps({"log": f"{number}\n", "stream": "stdout", "time": time(number)}) for number in numbers]
    return "".join(line + "\n" for line in lines).encode()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "id-json.log"


async def numbers(log, begin: bytes = b"") -> list[int] | None:
    with log_files.opened(str(log)) as files:
        if files is None:
            return None
        cutter, found = FileCutter(), []
        async for data in files.read(begin):
            found += [int(line.split()[1]) for _, line in cutter.feed(data)]
        return found


async def test_rotated_files_are_read_oldest_first(log):
    log.with_name("id-json.log.2").write_bytes(entries(range(10)))
    log.with_name("id-json.log.1").write_bytes(entries(range(10, 20)))
    log.write_bytes(entries(range(20, 30)))
    assert await numbers(log) == list(range(30))


async def test_file_that_is_rotated_while_it_is_opened_is_read_once(log):
    log.write_bytes(entries(range(5)))
    log.with_name("id-json.log.1").hardlink_to(log)
    assert await numbers(log) == list(range(5))


async def test_entry_that_is_being_written_is_left_to_the_engine(log):
    log.write_bytes(entries(range(3)) + entries([3])[:-9])
    assert await numbers(log) == [0, 1, 2]


async def test_reading_begins_near_the_moment_that_is_wanted(log, monkeypatch):
    monkeypatch.setattr(log_files, "READ_BYTES", 512)
    log.with_name("id-json.log.2").write_bytes(entries(range(1000)))
    log.with_name("id-json.log.1").write_bytes(entries(range(1000, 2000)))
    log.write_bytes(entries(range(2000, 3000)))
    for begin in (0, 1, 999, 1000, 1500, 1999, 2000, 2001, 2999):
        found = await numbers(log, stamp(time(begin)))
        assert found is not None
        assert found == list(range(found[0], 3000))
        assert max(0, begin - 20) <= found[0] <= begin


async def test_moment_behind_the_end_gives_at_most_the_last_lines(log):
    log.write_bytes(entries(range(50)))
    assert (await numbers(log, stamp("2027-01-01T00:00:00Z")))[-1] == 49


@pytest.mark.parametrize("case", ["missing", "packed", "empty name"])
async def test_files_that_cannot_all_be_read_are_the_engines(log, case):
    if case == "packed":
        log.write_bytes(entries(range(3)))
        log.with_name("id-json.log.1.gz").write_bytes(gzip.compress(entries(range(3))))
    assert await numbers("" if case == "empty name" else log) is None
