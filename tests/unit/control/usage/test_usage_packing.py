"""Points of usage become fewer ones and blocks of bytes, and nothing is invented on the way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.control.usage import packing
from towline.control.usage.packing import BLOCK_SERIES, Point, merge, one, pack
from towline.wire.kube_usage import LARGEST

amounts = st.integers(0, LARGEST)


@st.composite
def points(draw: st.DrawFn) -> Point:
    cpu_low, cpu, cpu_high = sorted(draw(st.tuples(amounts, amounts, amounts)))
    low, memory, high = sorted(draw(st.tuples(amounts, amounts, amounts)))
    return Point(draw(st.integers(1, 10)), cpu, cpu_low, cpu_high, memory, low, high)


@given(st.dictionaries(st.text(max_size=20), points(), max_size=30))
def test_blocks_hold_what_was_put_into_them(found: dict[str, Point]) -> None:
    assert {name: point for block in pack(found) for name, point in packing.all_of(block.data)} == found


@given(st.sets(st.text(max_size=10), min_size=1, max_size=600))
def test_blocks_are_in_order_and_say_what_they_begin_and_end_with(names: set[str]) -> None:
    blocks = list(pack({name: one(1, 1) for name in names}))
    assert sum(block.series for block in blocks) == len(names)
    assert max(block.series for block in blocks) <= BLOCK_SERIES
    edges = [edge for block in blocks for edge in (block.first, block.last)]
    assert edges == sorted(edges)
    for block in blocks:
        held = [name.encode() for name, _ in packing.all_of(block.data)]
        assert (held[0], held[-1], held) == (block.first, block.last, sorted(held))


@given(st.lists(points(), min_size=1, max_size=10))
def test_a_merged_point_has_the_extremes_and_a_mean_between_them(found: list[Point]) -> None:
    merged = merge(found)
    assert merged.samples == sum(one.samples for one in found)
    assert (merged.cpu_low, merged.cpu_high) == (min(one.cpu_low for one in found), max(one.cpu_high for one in found))
    assert merged.cpu_low <= merged.cpu <= merged.cpu_high
    assert merged.memory_low <= merged.memory <= merged.memory_high
    assert min(one.memory for one in found) <= merged.memory <= max(one.memory for one in found)


@given(st.lists(points(), min_size=2, max_size=10), st.integers(1, 9))
def test_the_way_of_merging_moves_the_mean_by_one_unit_at_most(found: list[Point], at: int) -> None:
    at = min(at, len(found) - 1)
    whole, halves = merge(found), merge([merge(found[:at]), merge(found[at:])])
    assert (whole.samples, whole.cpu_low, whole.cpu_high) == (halves.samples, halves.cpu_low, halves.cpu_high)
    assert abs(whole.cpu - halves.cpu) <= 1
    assert abs(whole.memory - halves.memory) <= 1


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_the_mean_is_that_of_all_samples(cpu: list[int]) -> None:
    assert merge([one(value, 0) for value in cpu]).cpu == pytest.approx(sum(cpu) / len(cpu), abs=0.5)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"x\x9c\x03\x00\x00\x00\x00\x01"])
def test_bytes_that_are_no_block_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        packing.unpack(data)
