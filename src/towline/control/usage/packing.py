"""Points of usage, how several become one, and blocks of them as bytes. Pure.

A block holds the points of up to BLOCK_SERIES series at one moment, column by column: names beside each other, and
numbers of one sort, are alike, so that zlib halves them. Extremes are kept as distances from the mean, which are small.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

BLOCK_SERIES = 250
"""Series of a block. One pod's chart of a day reads one block of 4 KB for each of its 300 points, together in
some 100 ms. Smaller blocks are more rows, larger ones more to unpack."""
LEVEL = 6
"""Of zlib: 9 takes twice as long for two per cent."""
LARGEST_BYTES = 4 * 1024 * 1024
"""That a block may unpack to: 250 names of 320 bytes and 13 numbers each are a tenth of it."""


T = TypeVar("T")


class Point(NamedTuple):
    """What one series used in one step of time. CPU in ten-thousandths of a core, memory in KiB."""

    samples: int
    cpu: int
    cpu_low: int
    cpu_high: int
    memory: int
    memory_low: int
    memory_high: int


class _Columns(msgspec.Struct, array_like=True, gc=False):
    names: list[str]
    samples: list[int]
    cpu: list[int]
    cpu_below: list[int]
    cpu_above: list[int]
    memory: list[int]
    memory_below: list[int]
    memory_above: list[int]


class Heads(msgspec.Struct, array_like=True, gc=False):
    """What series are ranked by; the other columns of their block are skipped."""

    names: list[str]
    samples: list[int]
    cpu: list[int]
    _cpu_below: msgspec.Raw
    _cpu_above: msgspec.Raw
    memory: list[int]
    _memory_below: msgspec.Raw
    _memory_above: msgspec.Raw


class Block(NamedTuple):
    """A packed block: its first and last name, how many series, and the bytes."""

    first: bytes
    last: bytes
    series: int
    data: bytes


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Columns)
_heads = msgspec.msgpack.Decoder(Heads)


def one(cpu: int, memory: int) -> Point:
    """Return a single sample as a point."""
    return Point(1, cpu, cpu, cpu, memory, memory, memory)


def merge(points: Sequence[Point]) -> Point:
    """Return several points of one series as one: the mean of their samples, and the extremes."""
    if len(points) == 1:
        return points[0]
    samples, cpu, cpu_low, cpu_high, memory, memory_low, memory_high = zip(*points, strict=True)
    total = sum(samples)
    cpu_mean = sum(map(int.__mul__, samples, cpu))
    memory_mean = sum(map(int.__mul__, samples, memory))
    return Point(
        total,
        _share(cpu_mean, total),
        min(cpu_low),
        max(cpu_high),
        _share(memory_mean, total),
        min(memory_low),
        max(memory_high),
    )


def _share(amount: int, parts: int) -> int:
    """Divide to the nearest whole number, without floats: they lose digits."""
    return (2 * amount + parts) // (2 * parts)


def order(name: str) -> bytes:
    """Return what names are ordered and compared by."""
    return name.encode()


def pack(points: Mapping[str, Point]) -> Iterator[Block]:
    """Yield blocks of points by name, in the order of their names."""
    names = sorted(points, key=order)
    for at in range(0, len(names), BLOCK_SERIES):
        yield _block(names[at : at + BLOCK_SERIES], points)


def _block(names: list[str], points: Mapping[str, Point]) -> Block:
    columns = _Columns(names, [], [], [], [], [], [], [])
    for name in names:
        found = points[name]
        columns.samples.append(found.samples)
        columns.cpu.append(found.cpu)
        columns.cpu_below.append(found.cpu - found.cpu_low)
        columns.cpu_above.append(found.cpu_high - found.cpu)
        columns.memory.append(found.memory)
        columns.memory_below.append(found.memory - found.memory_low)
        columns.memory_above.append(found.memory_high - found.memory)
    data = zlib.compress(_encoder.encode(columns), LEVEL)
    return Block(order(names[0]), order(names[-1]), len(names), data)


def unpack(data: bytes) -> _Columns:
    """Return the columns of a block. Raises: ValueError: they are none of ours."""
    return _decoded(data, _decoder)


def heads(data: bytes) -> Heads:
    """Return what the series of a block are ranked by. Raises: ValueError: it is none of ours."""
    return _decoded(data, _heads)


def _decoded(data: bytes, decoder: msgspec.msgpack.Decoder[T]) -> T:
    try:
        return decoder.decode(zlib.decompressobj().decompress(data, LARGEST_BYTES))
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"a block of usage cannot be read: {error}") from error


def points_of(columns: _Columns, places: Iterable[int]) -> Iterator[tuple[str, Point]]:
    """Yield the points at some places of a block, with their names."""
    for at in places:
        cpu, memory = columns.cpu[at], columns.memory[at]
        yield (
            columns.names[at],
            Point(
                columns.samples[at],
                cpu,
                cpu - columns.cpu_below[at],
                cpu + columns.cpu_above[at],
                memory,
                memory - columns.memory_below[at],
                memory + columns.memory_above[at],
            ),
        )


def all_of(data: bytes) -> Iterator[tuple[str, Point]]:
    """Yield every point of a block, with its name."""
    columns = unpack(data)
    return points_of(columns, range(len(columns.names)))
