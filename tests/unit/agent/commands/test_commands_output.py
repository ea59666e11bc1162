"""What commands print: whole, in order, bounded, and safe to show."""

from __future__ import annotations

import msgspec

from towline.agent.commands import output as module
from towline.agent.commands.output import GATHER_INTERVAL, Output
from towline.aio.clock import SimulatedClock
from towline.wire import link, orders


class Kept:
    def __init__(self) -> None:
        self.chunks: list[tuple[str, str]] = []

    def __call__(self, stage: str, text: str) -> None:
        self.chunks.append((stage, text))


def make(limit: int = 10_000) -> tuple[Output, Kept, SimulatedClock]:
    kept, clock = Kept(), SimulatedClock()
    return Output(kept, limit, clock=clock), kept, clock


async def test_lines_of_a_moment_are_one_chunk() -> None:
    output, kept, clock = make()
    output.line("a")
    output.line("b")
    assert kept.chunks == []
    await clock.advance(GATHER_INTERVAL)
    assert kept.chunks == [("stdout", "a\nb\n")]


async def test_both_outputs_stay_in_the_order_of_arrival() -> None:
    output, kept, _ = make()
    output.line("a")
    output.error("wrong")
    output.line("b")
    output.close()
    assert kept.chunks == [("stdout", "a\n"), ("stderr", "wrong\n"), ("stdout", "b\n")]
    assert output.last_error_line == "wrong"


async def test_what_goes_past_the_bound_is_counted_and_not_kept() -> None:
    output, kept, _ = make(limit=5)
    output.write("stdout", b"12345678")
    output.write("stderr", b"x")
    output.close()
    assert kept.chunks == [("stdout", "12345")]
    assert output.bytes == {"stdout": 8, "stderr": 1}
    assert output.truncated


async def test_output_that_fills_its_bound_exactly_is_whole() -> None:
    output, _, _ = make(limit=5)
    output.write("stdout", b"12345")
    assert output.is_full
    assert not output.truncated


async def test_chunks_are_cut_at_the_end_of_a_line() -> None:
    output, kept, _ = make(limit=100_000)
    line = "x" * 1000 + "\n"
    output.write("stdout", (line * 10).encode())
    output.close()
    assert all(len(text) <= orders.MAX_OUTPUT_CHUNK and text.endswith("\n") for _, text in kept.chunks)
    assert "".join(text for _, text in kept.chunks) == line * 10


async def test_a_character_that_is_cut_between_two_reads_is_whole() -> None:
    output, kept, _ = make()
    data = "ü€".encode()
    for index in range(len(data)):
        output.write("stdout", data[index : index + 1])
    output.close()
    assert kept.chunks == [("stdout", "ü€")]


async def test_control_characters_are_shown_and_never_sent() -> None:
    output, kept, _ = make()
    output.write("stdout", b"\x1b[31mred\x00\n")
    output.close()
    assert kept.chunks == [("stdout", "\\x1b[31mred\\x00\n")]


async def test_text_that_grows_by_escaping_is_cut_into_chunks() -> None:
    output, kept, _ = make(limit=100_000)
    output.write("stdout", b"\x1b" * 3000)
    output.close()
    assert all(len(text) <= orders.MAX_OUTPUT_CHUNK for _, text in kept.chunks)
    assert "".join(text for _, text in kept.chunks) == "\\x1b" * 3000


async def test_endless_small_chunks_end_at_their_bound(monkeypatch: object) -> None:
    output, kept, clock = make()
    for _ in range(3):
        output.line("a")
        await clock.advance(GATHER_INTERVAL)
    assert len(kept.chunks) == 3
    output._chunks = 0
    output.line("b")
    output.close()
    assert len(kept.chunks) == 3
    assert output.truncated
    assert module.MOST_CHUNKS > 1000


async def test_the_largest_chunks_fit_into_one_message() -> None:
    from towline.agent.uplink.delivery import MAX_EVENTS_PER_MESSAGE, _fitting

    event = link.JobEvent(seq=1, at=0.0, stage="stdout", text='"€' * (orders.MAX_OUTPUT_CHUNK // 2))
    fitting = _fitting((event,) * MAX_EVENTS_PER_MESSAGE)
    message = link.JobProgress(job_id="job", fence=1, events=fitting)
    assert 1 < len(fitting) < MAX_EVENTS_PER_MESSAGE
    assert len(msgspec.json.encode(message)) < link.MAX_MESSAGE_BYTES
