"""ClientHellos of a real TLS library, cut at every byte, and what is none."""

import ssl
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.wire.client_hello import MAX_HELLO_BYTES, ClientHello, HelloError, missing, parse


def hello(name: str | None = "shop.example.test", protocols: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """What Python's own TLS sends first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same message in records of a few bytes each."""
    body = data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def test_name_and_protocols_are_read() -> None:
    assert parse(hello()) == ClientHello("shop.example.test", ("h2", "http/1.1"))


def test_a_client_may_name_nobody_and_nothing() -> None:
    assert parse(hello(None, ())) == ClientHello(None, ())


def test_what_follows_is_ignored() -> None:
    assert parse(hello() + b"\x17\x03\x03\x00\x05early") == parse(hello())


def test_a_hello_is_awaited_at_every_byte() -> None:
    data = hello()
    assert all(parse(data[:end]) is None for end in range(len(data)))


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_hello_may_come_in_small_records(size: int) -> None:
    data = in_records(hello(), size)
    assert parse(data) == parse(hello())
    assert parse(data[:-1]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x80\x2e\x01\x03\x01",  # SSL 2
        b"\x15\x03\x01\x00\x02\x02\x28",  # an alert
        b"\x16\x03\x01\x00\x00",  # an empty record
        b"\x16\x03\x01\x40\x01" + b"\x01",  # longer than a record may be
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",  # a ServerHello
        b"\x16\x03\x01\x00\x04\x01\xff\xff\xff",  # 16 MiB
    ],
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(HelloError):
        parse(data)


def test_a_hello_without_end_is_given_up() -> None:
    with pytest.raises(HelloError):
        parse(in_records(b"\x16\x03\x01\x00\x00\x01\x00\x3f\x00" + bytes(0x3F00), 1)[:MAX_HELLO_BYTES])


def test_a_name_that_comes_twice_is_refused() -> None:
    data = hello("one.example.test")
    at = data.index(b"one.example.test") - 9
    extension = data[at : at + 9 + 16]
    longer = data.replace(extension, extension * 2)
    fixed = bytearray(longer)
    extra = len(extension)
    for place, size in ((3, 2), (6, 3)):
        value = int.from_bytes(data[place : place + size], "big") + extra
        fixed[place : place + size] = value.to_bytes(size, "big")
    start = 5 + 4 + 2 + 32
    start += 1 + data[start]
    start += 2 + int.from_bytes(data[start : start + 2], "big")
    start += 1 + data[start]
    fixed[start : start + 2] = (int.from_bytes(data[start : start + 2], "big") + extra).to_bytes(2, "big")
    with pytest.raises(HelloError, match="twice"):
        parse(bytes(fixed))


@given(st.binary(max_size=400))
def test_nothing_else_than_its_own_error_comes_out(data: bytes) -> None:
    with suppress(HelloError):
        parse(data)


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_changed_byte_never_breaks_the_reader(place: int, value: int) -> None:
    data = bytearray(hello())
    data[place % len(data)] = value
    with suppress(HelloError):
        parse(bytes(data))


@pytest.mark.parametrize("size", [1, 3, 2000])
def test_a_hello_that_comes_bit_by_bit_is_read_some_fifty_times_at_most(size: int) -> None:
    data = in_records(hello(), size)
    there, looks = 0, 0
    while lacking := missing(data[:there]):
        assert parse(data[:there]) is None
        there += lacking
        looks += 1
    assert parse(data[:there]) == parse(hello())
    assert there <= len(data)
    assert looks <= 60
