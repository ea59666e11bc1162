"""The yamux machine: streams, credit, fairness, and what happens to a peer that breaks the rules."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.wire.yamux_pair import End, Pair

from towline.wire import yamux_frames as frames
from towline.wire.yamux_frames import ACK, FIN, HEADER, HEADER_BYTES, INITIAL_WINDOW_BYTES, RST, SYN
from towline.wire.yamux_model import (
    LOW_WATER_BYTES,
    MAX_FRAME_BYTES,
    MAX_STRIKES,
    MAX_WAITING_CONTROL_FRAMES,
    Limits,
    TooManyStreams,
)


def parse(wire):
    """Cut a wire into (type, flags, stream id, length or body)."""
    found, at = [], 0
    while at < len(wire):
        _, kind, flags, stream_id, length = HEADER.unpack_from(wire, at)
        at += HEADER_BYTES
        body = bytes(wire[at : at + length]) if kind == frames.DATA else length
        at += length if kind == frames.DATA else 0
        found.append((kind, flags, stream_id, body))
    return found


def test_server_opens_even_ids_and_client_odd_ones():
    pair = Pair()
    assert [pair.b.yamux.open().id for _ in range(2)] == [2, 4]
    assert [pair.a.yamux.open().id for _ in range(2)] == [1, 3]


def test_first_bytes_ride_on_the_syn():
    pair = Pair()
    pair.b.yamux.write(pair.b.yamux.open(), b"head")
    pair.b.flush()
    assert parse(pair.b.wire) == [(frames.DATA, SYN, 2, b"head")]


def test_end_rides_on_the_last_bytes():
    end = End(is_client=False)
    stream = end.yamux.open()
    end.yamux.write(stream, b"all")
    end.yamux.finish(stream)
    end.flush()
    assert parse(end.wire) == [(frames.DATA, SYN | FIN, 2, b"all")]


def test_accepted_stream_is_acknowledged_without_data():
    pair = Pair()
    pair.b.yamux.open()
    pair.b.flush()
    pair.move(pair.b, pair.a)
    pair.a.flush()
    assert parse(pair.a.wire) == [(frames.WINDOW_UPDATE, ACK, 2, 0)]


def test_small_writes_share_a_frame():
    end = End(is_client=False)
    stream = end.yamux.open()
    for piece in (b"a", b"b", b"c"):
        end.yamux.write(stream, piece)
    end.flush()
    assert parse(end.wire) == [(frames.DATA, SYN, 2, b"abc")]


def test_bytes_and_end_arrive_and_stream_is_gone_on_both_sides():
    pair = Pair()
    stream = pair.b.yamux.open()
    pair.b.yamux.write(stream, b"question")
    pair.b.yamux.finish(stream)
    pair.settle()
    there = pair.a.opened[0]
    pair.a.yamux.write(there, b"answer")
    pair.a.yamux.finish(there)
    pair.settle()
    assert bytes(pair.a.got[2]) == b"question"
    assert bytes(pair.b.got[2]) == b"answer"
    assert pair.a.ended == pair.b.ended == {2}
    assert pair.a.yamux.stream_count == pair.b.yamux.stream_count == 0
    assert pair.a.yamux.strikes == pair.b.yamux.strikes == 0


def test_end_is_sent_once_even_among_busy_streams():
    end = End(is_client=False)
    busy, brief = end.yamux.open(), end.yamux.open()
    end.yamux.write(busy, b"x" * 200_000)
    end.flush(1)
    end.yamux.write(brief, b"y")
    end.yamux.finish(brief)
    end.flush()
    assert [flags & FIN for _, flags, stream_id, _ in parse(end.wire) if stream_id == brief.id] == [FIN]


def test_writer_stops_at_the_credit_and_goes_on_when_it_grows():
    pair = Pair()
    stream = pair.b.yamux.open()
    pair.b.yamux.write(stream, b"x" * (INITIAL_WINDOW_BYTES + 5))
    pair.settle(consume=False)
    assert len(pair.a.got[2]) == INITIAL_WINDOW_BYTES
    assert stream.queued_bytes == 5
    pair.a.consume_all()
    pair.settle()
    assert len(pair.a.got[2]) == INITIAL_WINDOW_BYTES + 5


def test_credit_is_given_in_halves_of_the_window():
    pair = Pair()
    pair.b.yamux.write(pair.b.yamux.open(), b"x" * INITIAL_WINDOW_BYTES)
    pair.settle(consume=False)
    there = pair.a.opened[0]
    assert not pair.a.yamux.consume(there, INITIAL_WINDOW_BYTES // 2 - 1)
    assert pair.a.yamux.consume(there, 1)
    pair.a.flush()
    assert parse(pair.a.wire) == [(frames.WINDOW_UPDATE, 0, 2, INITIAL_WINDOW_BYTES // 2)]


def test_frames_are_never_longer_than_the_limit():
    end = End(is_client=False)
    end.yamux.write(end.yamux.open(), b"x" * 100_000)
    end.flush()
    assert max(len(body) for _, _, _, body in parse(end.wire)) == MAX_FRAME_BYTES


def test_short_answer_waits_for_no_busy_stream():
    end = End(is_client=False)
    for _ in range(4):
        end.yamux.write(end.yamux.open(), b"x" * INITIAL_WINDOW_BYTES)
    for _ in range(4):
        end.flush(1)
        end.wire.clear()
    brief = end.yamux.open()
    end.yamux.write(brief, b"short")
    order = []
    while end.yamux.has_output:
        end.flush(1)
        order += [stream_id for _, _, stream_id, _ in parse(end.wire)]
        end.wire.clear()
    assert order[0] == brief.id


def test_busy_streams_take_turns():
    end = End(is_client=False)
    streams = [end.yamux.open() for _ in range(3)]
    for stream in streams:
        end.yamux.write(stream, b"x" * (4 * MAX_FRAME_BYTES))
    end.flush()
    assert [stream_id for _, _, stream_id, _ in parse(end.wire)] == [2, 4, 6] * 4


def test_stream_of_many_small_writes_does_not_starve_a_busy_one():
    end = End(is_client=False)
    busy, chatty = end.yamux.open(), end.yamux.open()
    end.yamux.write(busy, b"x" * INITIAL_WINDOW_BYTES)
    end.flush(1)
    seen = []
    for _ in range(10):
        end.yamux.write(chatty, b"y")
        end.wire.clear()
        end.flush(1)
        seen += [stream_id for _, _, stream_id, _ in parse(end.wire)]
    assert seen.count(busy.id) >= 3


def test_stream_that_wanted_room_is_reported_when_drained():
    end = End(is_client=False)
    stream = end.yamux.open()
    end.yamux.write(stream, b"x" * (LOW_WATER_BYTES + MAX_FRAME_BYTES))
    stream.wants_room = True
    assert end.flush(1) == [stream]
    assert end.flush() == []


def test_reset_drops_the_queue_and_tells_the_peer():
    pair = Pair()
    stream = pair.b.yamux.open()
    pair.settle()
    pair.b.yamux.write(stream, b"never")
    pair.b.yamux.reset(stream)
    pair.settle()
    assert pair.a.reset == {2: ""}
    assert 2 not in pair.a.got
    assert pair.a.yamux.stream_count == 0


def test_reset_before_the_first_frame_sends_nothing():
    end = End(is_client=False)
    end.yamux.reset(end.yamux.open())
    end.flush()
    assert not end.wire


def test_data_on_its_way_to_a_stream_that_we_reset_is_no_offence():
    pair = Pair()
    pair.b.yamux.write(pair.b.yamux.open(), b"x")
    pair.settle()
    pair.b.yamux.write(pair.b.stream(2), b"late")
    pair.b.flush()
    pair.a.yamux.reset(pair.a.opened[0])
    pair.settle()
    assert pair.a.yamux.strikes == 0
    assert pair.b.reset == {2: ""}


def test_reset_in_the_middle_of_a_body_drops_the_rest():
    end = End(is_client=True)
    whole = frames.data(2, b"0123456789", SYN) + frames.data(4, b"next", SYN)
    end.feed(whole[:16])
    end.yamux.reset(end.opened[0])
    end.feed(whole[16:])
    assert bytes(end.got[2]) == b"0123"
    assert bytes(end.got[4]) == b"next"


def test_ping_is_answered_and_its_answer_reported():
    pair = Pair()
    pair.b.yamux.ping(77)
    pair.settle()
    assert [entry[0] for entry in pair.b.log] == ["ponged"]


def test_go_away_lets_open_streams_go_on_but_opens_none():
    pair = Pair()
    stream = pair.b.yamux.open()
    pair.settle()
    pair.a.yamux.go_away()
    pair.settle()
    assert not pair.b.yamux.can_open
    pair.b.yamux.write(stream, b"still")
    pair.settle()
    assert bytes(pair.a.got[2]) == b"still"


def test_stream_opened_to_one_that_goes_away_is_reset():
    pair = Pair()
    pair.a.yamux.go_away()
    pair.b.yamux.open()
    pair.settle()
    assert pair.b.reset == {2: ""}


def test_stream_over_the_limit_is_refused_here_and_reset_there():
    pair = Pair(Limits(max_streams=2))
    pair.b.yamux.open()
    pair.b.yamux.open()
    with pytest.raises(TooManyStreams):
        pair.b.yamux.open()
    pair.b.yamux.limits = Limits(max_streams=3)
    pair.b.yamux.open()
    pair.settle()
    assert pair.b.reset == {6: ""}
    assert pair.a.yamux.strikes == 0


# -- the window that grows ----------------------------------------------------------------


def drained_within(seconds, *, round_trip, limits=None):
    now = [0.0]
    pair = Pair(limits, monotonic=lambda: now[0])
    pair.a.yamux.round_trip = round_trip
    stream = pair.b.yamux.open()
    for _ in range(40):
        pair.b.yamux.write(stream, b"x" * (INITIAL_WINDOW_BYTES // 2))
        now[0] += seconds
        pair.settle()
    return pair.a.opened[0].window_bytes


def test_window_grows_for_a_stream_that_drains_within_a_round_trip():
    assert drained_within(0.02, round_trip=0.05) > INITIAL_WINDOW_BYTES


def test_window_stays_when_the_reader_is_slow():
    assert drained_within(0.2, round_trip=0.05) == INITIAL_WINDOW_BYTES


def test_window_stays_on_a_short_line():
    assert drained_within(0.0001, round_trip=0.0005) == INITIAL_WINDOW_BYTES


def test_window_growth_is_bounded_per_stream_and_per_session():
    assert drained_within(0.001, round_trip=1.0, limits=Limits(max_window_bytes=512 * 1024)) == 512 * 1024
    shared = Limits(max_extra_window_bytes=100 * 1024)
    assert drained_within(0.001, round_trip=1.0, limits=shared) == INITIAL_WINDOW_BYTES + 100 * 1024


# -- peers that break the rules (reference: bad input 34) ------------------------------------


def opened(end):
    end.feed(frames.window_update(2, 0, SYN))
    end.flush()
    end.wire.clear()


def test_window_overrun_resets_the_stream_and_its_body_is_dropped():
    end = End(is_client=True)
    opened(end)
    end.feed(frames.data(2, b"x" * (INITIAL_WINDOW_BYTES + 1)) + frames.data(4, b"fine", SYN))
    assert "credit of" in end.reset[2]
    assert bytes(end.got[4]) == b"fine"
    end.flush()
    assert (frames.WINDOW_UPDATE, RST, 2, 0) in parse(end.wire)


def test_window_overrun_in_sum_resets_the_stream():
    end = End(is_client=True)
    opened(end)
    end.feed(frames.data(2, b"x" * INITIAL_WINDOW_BYTES) + frames.data(2, b"y"))
    assert "credit of 0" in end.reset[2]


def test_data_after_the_end_resets_the_stream():
    end = End(is_client=True)
    opened(end)
    end.feed(frames.data(2, b"x", FIN) + frames.data(2, b"y"))
    assert end.reset == {2: "data after the end"}


def test_stream_opened_twice_is_reset():
    end = End(is_client=True)
    opened(end)
    end.feed(frames.data(2, b"x", SYN))
    assert end.reset == {2: "opened twice"}


@pytest.mark.parametrize("stream_id", [0, 1, 2], ids=["zero", "our own parity", "used before"])
def test_stream_id_that_is_not_the_peers_next_is_refused(stream_id):
    end = End(is_client=True)
    end.feed(frames.window_update(4, 0, SYN))
    end.feed(frames.data(stream_id, b"x", SYN))
    assert end.yamux.strikes == 1
    assert len(end.opened) == 1


def test_data_for_an_unknown_stream_is_answered_with_a_reset():
    end = End(is_client=True)
    end.feed(frames.data(2, b"x"))
    end.flush()
    assert parse(end.wire) == [(frames.WINDOW_UPDATE, RST, 2, 0)]
    assert end.yamux.strikes == 1


def test_late_credit_for_a_finished_stream_is_no_offence():
    pair = Pair()
    stream = pair.b.yamux.open()
    pair.b.yamux.finish(stream)
    pair.settle()
    pair.a.yamux.finish(pair.a.opened[0])
    pair.settle()
    pair.b.feed(frames.window_update(2, 1000))
    assert pair.b.yamux.strikes == 0


def test_credit_over_32_bits_resets_the_stream():
    end = End(is_client=True)
    opened(end)
    end.feed(frames.window_update(2, 2**32 - 1))
    assert end.reset == {2: "credit over 32 bits"}


def test_side_that_accepts_no_streams_resets_them():
    end = End(is_client=False, accepts=False)
    end.feed(frames.data(1, b"x", SYN))
    assert not end.opened
    assert end.yamux.strikes == 1


def test_repeated_offences_end_the_session_with_a_protocol_error():
    end = End(is_client=True)
    for count in range(MAX_STRIKES + 1):
        assert not end.failed
        end.feed(frames.data(1001 + 2 * count, b"x"))
    assert "too many broken rules" in end.failed[0]
    end.flush()
    assert parse(end.wire)[-1] == (frames.GO_AWAY, 0, 0, frames.PROTOCOL_ERROR)


def test_nothing_is_parsed_after_a_failure():
    end = End(is_client=True)
    end.feed(frames.encode(9, 0, 0, 0) + frames.window_update(2, 0, SYN))
    assert end.failed == ["unknown frame type 9"]
    assert end.feed(frames.window_update(4, 0, SYN)) == []


def test_other_versions_end_the_session():
    end = End(is_client=True)
    end.feed(frames.encode(frames.DATA, 0, 2, 0, version=1))
    assert end.failed == ["yamux version 1"]


def test_pings_of_a_peer_that_does_not_read_end_the_session():
    end = End(is_client=True)
    end.feed(frames.ping(1) * (MAX_WAITING_CONTROL_FRAMES + 1))
    assert end.failed == ["the peer sends without reading"]


def test_stream_opened_and_reset_in_one_frame_leaves_nothing():
    end = End(is_client=True)
    end.feed(frames.window_update(2, 0, SYN | RST))
    assert end.log == [("opened", 2), ("reset", 2, "")]
    assert end.yamux.stream_count == 0


# -- cut anywhere -------------------------------------------------------------------------

SCRIPT = b"".join(
    [
        frames.window_update(2, 1000, SYN),
        frames.data(2, b"first bytes"),
        frames.data(4, b"opened by data", SYN),
        frames.ping(5),
        frames.data(2, b"", FIN),
        frames.data(4, b"end rides", FIN),
        frames.window_update(4, 77),
        frames.window_update(6, 0, SYN | FIN),
        frames.data(8, b"gone", SYN),
        frames.window_update(8, 0, RST),
        frames.data(8, b"after reset"),
        frames.go_away(),
    ]
)


def replay(pieces):
    end = End(is_client=True)
    for piece in pieces:
        end.feed(piece)
    end.flush()
    return [entry if entry[0] != "wentaway" else "wentaway" for entry in end.log], bytes(end.wire)


def test_input_cut_at_any_byte_gives_the_same_events_and_answers():
    whole = replay([SCRIPT])
    for cut in range(1, len(SCRIPT)):
        assert replay([SCRIPT[:cut], SCRIPT[cut:]]) == whole


def test_input_of_single_bytes_gives_the_same_events_and_answers():
    assert replay([bytes([byte]) for byte in SCRIPT]) == replay([SCRIPT])


@given(st.lists(st.integers(0, len(SCRIPT)), max_size=8))
def test_input_cut_at_several_places_gives_the_same_events_and_answers(cuts):
    edges = [0, *sorted(cuts), len(SCRIPT)]
    assert replay([SCRIPT[a:b] for a, b in pairwise(edges)]) == replay([SCRIPT])
