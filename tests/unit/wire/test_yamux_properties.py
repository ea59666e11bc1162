"""Two machines that do anything in any order keep what they promise; garbage never breaks one."""

import os
import random
import time

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.unit.wire.test_yamux import SCRIPT
from tests.unit.wire.yamux_pair import End, Pair

from towline.wire import yamux_frames as frames
from towline.wire.yamux_frames import INITIAL_WINDOW_BYTES
from towline.wire.yamux_model import MAX_WAITING_CONTROL_FRAMES

SIZES = st.sampled_from([1, 11, 12, 13, 1000, 40_000, 130_000, 300_000])


class TwoMachines(RuleBasedStateMachine):
    """Bytes written by one application arrive at the other, in order, ends last, whatever the pace."""

    @initialize()
    def begin(self):
        self.pair = Pair()
        self.written = {}
        self.finished = set()
        self.dropped = set()

    def sides(self):
        return {"a": (self.pair.a, self.pair.b), "b": (self.pair.b, self.pair.a)}

    def pick(self, side, number):
        streams = self.sides()[side][0].yamux.streams
        return streams[number % len(streams)] if streams else None

    @rule(side=st.sampled_from("ab"))
    def open(self, side):
        end = self.sides()[side][0]
        if end.yamux.can_open:
            end.yamux.open()

    @rule(side=st.sampled_from("ab"), number=st.integers(0, 9), size=SIZES, value=st.integers(0, 255))
    def write(self, side, number, size, value):
        stream = self.pick(side, number)
        if stream is not None and not stream.finished_here and stream.queued_bytes < 1_000_000:
            data = bytes([value]) * size
            self.sides()[side][0].yamux.write(stream, data)
            self.written.setdefault((side, stream.id), bytearray()).extend(data)

    @rule(side=st.sampled_from("ab"), number=st.integers(0, 9))
    def finish(self, side, number):
        stream = self.pick(side, number)
        if stream is not None:
            self.sides()[side][0].yamux.finish(stream)
            self.finished.add((side, stream.id))

    @rule(side=st.sampled_from("ab"), number=st.integers(0, 9))
    def reset(self, side, number):
        stream = self.pick(side, number)
        if stream is not None:
            self.dropped.add(stream.id)
            self.sides()[side][0].yamux.reset(stream)

    @rule(side=st.sampled_from("ab"), count=st.one_of(st.integers(1, 40), st.integers(1, 400_000)))
    def move(self, side, count):
        source, sink = self.sides()[side]
        self.pair.move(source, sink, count)

    @rule(side=st.sampled_from("ab"), budget=st.sampled_from([1, 1000, 65_536]))
    def flush(self, side, budget):
        source = self.sides()[side][0]
        if len(source.wire) < 1_000_000:
            source.flush(budget + len(source.wire))

    @rule(side=st.sampled_from("ab"))
    def consume(self, side):
        self.sides()[side][0].consume_all()

    @invariant()
    def what_arrived_is_the_beginning_of_what_was_written(self):
        for side, (source, sink) in self.sides().items():
            assert not source.failed
            assert source.yamux.strikes == 0
            for stream_id, got in sink.got.items():
                assert self.written.get((side, stream_id), b"").startswith(got)

    @invariant()
    def unread_bytes_never_exceed_the_window(self):
        for end, _ in self.sides().values():
            assert all(count <= INITIAL_WINDOW_BYTES for count in end.unread.values())

    def teardown(self):
        if not hasattr(self, "pair"):
            return
        self.pair.a.consume_all()
        self.pair.b.consume_all()
        self.pair.settle()
        for side, (_, sink) in self.sides().items():
            for (writer, stream_id), data in self.written.items():
                if writer == side and stream_id not in self.dropped:
                    assert bytes(sink.got.get(stream_id, b"")) == bytes(data)
            for writer, stream_id in self.finished:
                if writer == side and stream_id not in self.dropped:
                    assert stream_id in sink.ended
        open_a = {s.id for s in self.pair.a.yamux.streams}
        open_b = {s.id for s in self.pair.b.yamux.streams}
        assert open_a == open_b


TestTwoMachines = TwoMachines.TestCase
TestTwoMachines.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def random_frame(rng):
    kind = rng.choice([0, 0, 0, 1, 1, 2, 3, rng.randrange(256)])
    flags = rng.choice([0, 0, 1, 2, 4, 8, rng.randrange(65536)])
    stream_id = rng.choice([0, 2, 4, 6, rng.randrange(12), rng.randrange(2**32)])
    length = rng.choice([0, 1, 50, INITIAL_WINDOW_BYTES, rng.randrange(2**32)])
    body = rng.randbytes(min(length, rng.choice([0, 60, 5000]))) if kind == 0 else b""
    return frames.encode(kind, flags, stream_id, length, body, version=rng.choice([0] * 20 + [rng.randrange(256)]))


def mutated(rng):
    data = bytearray(SCRIPT * rng.randrange(1, 4))
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 20)]
            case _:
                data[at:at] = rng.randbytes(rng.randrange(1, 20))
    return bytes(data)


def attack(rng):
    """Feed one session with hostile input; it must stay within its limits and never raise."""
    end = End(is_client=bool(rng.randrange(2)), accepts=bool(rng.randrange(4)))
    for _ in range(rng.randrange(1, 30)):
        data = rng.choice([random_frame, mutated])(rng)
        at = 0
        while at < len(data):
            step = rng.choice([1, 5, 12, 100, len(data)])
            end.feed(data[at : at + step])
            at += step
        if rng.randrange(3) == 0:
            end.flush()
            end.wire.clear()
        if rng.randrange(3) == 0:
            end.consume_all()
        if rng.randrange(4) == 0 and end.yamux.streams:
            end.yamux.write(rng.choice(end.yamux.streams), rng.randbytes(20))
        if rng.randrange(9) == 0 and end.yamux.streams:
            end.yamux.reset(rng.choice(end.yamux.streams))
        assert end.yamux.stream_count <= end.yamux.limits.max_streams
        assert all(count <= INITIAL_WINDOW_BYTES for count in end.unread.values())
        assert len(end.failed) <= 1
        end.flush()
        assert len(end.wire) <= 12 * (MAX_WAITING_CONTROL_FRAMES + 1) + 60_000
        end.wire.clear()


def test_hostile_input_stays_within_the_limits():
    for seed in range(400):
        attack(random.Random(seed))


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_hostile_input_stays_within_the_limits_for_an_hour():
    seconds = float(os.environ.get("TOWLINE_SOAK_SECONDS", "3600"))
    first = int(os.environ.get("TOWLINE_SOAK_SEED", str(time.time_ns())))
    end, seed = time.monotonic() + seconds, first
    while time.monotonic() < end:
        seed += 1
        try:
            attack(random.Random(seed))
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    print(f"{seed - first} sessions in {seconds:.0f} s")
