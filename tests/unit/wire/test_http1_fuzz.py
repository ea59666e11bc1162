"""Fuzzing: nothing but `HeadError` comes out, pieces do not matter, and llhttp never disagrees on what we accept."""

import contextlib
import os
import random
import time

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.http1_script import BAD_REQUESTS, CHUNKED, GET, POST, Got, Refused, read

SOAK_SECONDS = float(os.environ.get("TOWLINE_SOAK_SECONDS", "3600"))
SEED = 20261121
SEEDS = [
    *(data[:600] for data, _ in BAD_REQUESTS.values()),
    GET + b"Connection: keep-alive\r\nCookie: a=b\r\n\r\n" + GET + b"\r\n",
    POST + b"Content-Length: 5\r\n\r\nhello" + GET + b"\r\n",
    CHUNKED + b"5;a=b\r\nhello\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n" + GET + b"\r\n",
]
WORDS = [
    b"\r\n", b"\r", b"\n", b"\x00", b" ", b"\t", b":", b"0", b"5", b"F", b"-", b"+", b";", b",", b"HTTP/1.1", b"GET / ",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b"\r\n\r\n", b"chunked", b"\xff",
    b"0\r\n\r\n", b"Connection: close\r\n", b"Upgrade: websocket\r\n",
]  # fmt: skip


class Judge:
    """What llhttp alone makes of the same bytes."""

    def __init__(self) -> None:
        self.requests: list[Got] = []
        self._target = b""
        self._body = b""

    def on_message_begin(self) -> None:
        self._target = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.requests.append(Got(self.parser.get_method(), self._target, self._body))

    def read(self, data: bytes) -> list[Got]:
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.parser.feed_data(data)
        return self.requests


def check(data: bytes, generator: random.Random) -> None:
    """Assert everything that must hold for any bytes."""
    seen = read([data])
    for _ in range(2):
        at = sorted(generator.randrange(len(data) + 1) for _ in range(generator.randrange(1, 5)))
        pieces = [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]
        assert [step for step in read(pieces) if isinstance(step, Got)] == [s for s in seen if isinstance(s, Got)]
        assert any(isinstance(s, Refused) for s in read(pieces)) == any(isinstance(s, Refused) for s in seen)
    accepted = [step for step in seen if isinstance(step, Got)]
    lowered = data.lower()
    if b"upgrade" not in lowered and b"close" not in lowered and b"http/1.0" not in lowered:
        # llhttp stops by itself behind those; everywhere else it must have read the same requests
        assert Judge().read(data)[: len(accepted)] == accepted


def mutate(generator: random.Random) -> bytes:
    """Return one of the seeds after a few small accidents."""
    data = bytearray(generator.choice(SEEDS))
    for _ in range(generator.randrange(1, 6)):
        at = generator.randrange(len(data) + 1)
        kind = generator.randrange(5)
        if kind == 0:
            data[at:at] = generator.choice(WORDS)
        elif kind == 1:
            del data[at : at + generator.randrange(1, 8)]
        elif kind == 2 and at < len(data):
            data[at] = generator.randrange(256)
        elif kind == 3:
            other = generator.choice(SEEDS)
            data[at:at] = other[generator.randrange(len(other)) :][:80]
        else:
            data[at : at + 1] = bytes(generator.randrange(32, 127) for _ in range(2))
    return bytes(data)


@pytest.mark.parametrize("part", range(4))
def test_mutated_requests_are_read_or_refused(part: int) -> None:
    generator = random.Random(SEED + part)
    for _ in range(1500):
        check(mutate(generator), generator)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, GET, POST, CHUNKED]) | st.binary(max_size=6), max_size=12))
def test_any_words_are_read_or_refused(words: list[bytes]) -> None:
    check(b"".join(words), random.Random(SEED))


@pytest.mark.soak
@pytest.mark.timeout(SOAK_SECONDS + 120)
def test_mutated_requests_are_read_or_refused_for_an_hour() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    end, inputs = time.monotonic() + SOAK_SECONDS, 0
    while time.monotonic() < end:
        data = mutate(generator)
        inputs += 1
        try:
            check(data, generator)
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {data!r}") from error
    print(f"{inputs} inputs in {SOAK_SECONDS:.0f} s")
