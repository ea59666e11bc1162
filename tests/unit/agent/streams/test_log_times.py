import pytest

from towline.agent.streams.log_times import BadMoment, Cursor, earlier, engine_time, full_stamp, nanoseconds, stamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-21T10:14:02Z", b"2026-11-21T10:14:02.000000000Z"),
        ("2026-11-21T10:14:02.22Z", b"2026-11-21T10:14:02.220000000Z"),
        ("2026-11-21t12:14:02.123456789+02:00", b"2026-11-21T10:14:02.123456789Z"),
        ("2026-11-21 10:14:02.1234567891234z", b"2026-11-21T10:14:02.123456789Z"),
        ("1970-01-01T00:00:00.000000001Z", b"1970-01-01T00:00:00.000000001Z"),
        ("0001-01-01T00:00:00Z", b"1970-01-01T00:00:00.000000000Z"),
    ],
)
def test_stamp_is_utc_with_nine_digits(text, expected):
    assert stamp(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T10:14:02",
        "2026-13-01T00:00:00Z",
        "2026-11-21T10:14:02Z\n",
        "١٠٢٦-11-21T10:14:02Z",
    ],
)
def test_text_that_is_no_moment_is_named(text):
    with pytest.raises(BadMoment, match="is not a time"):
        stamp(text)


def test_cursor_is_a_stamp_and_a_count():
    assert Cursor.parse("2026-11-21T10:14:02.22Z/3") == Cursor(b"2026-11-21T10:14:02.220000000Z", 3)


@pytest.mark.parametrize(
    "text", ["", "/3", "2026-11-21T10:14:02Z", "2026-11-21T10:14:02Z/-1", "2026-11-21T10:14:02Z/x"]
)
def test_text_that_is_no_cursor_is_refused(text):
    with pytest.raises(BadMoment):
        Cursor.parse(text)


def test_earlier_moment_keeps_the_form():
    assert earlier(b"2026-11-21T00:00:00.500000000Z", 1.0) == b"2026-11-20T23:59:59.500000000Z"
    assert earlier(b"1970-01-01T00:00:00.500000000Z", 1.0) == b"1970-01-01T00:00:00.000000000Z"


def test_engine_takes_seconds_with_nine_digits():
    assert engine_time(b"1970-01-01T00:01:00.000000007Z") == "60.000000007"


def test_stamps_sort_as_their_moments():
    texts = ["2026-11-21T10:14:02Z", "2026-11-21T10:14:02.000000001Z", "2026-11-21T10:14:02.1Z", "2026-11-21T10:14:03Z"]
    assert sorted(map(stamp, texts)) == [stamp(text) for text in sorted(texts, key=nanoseconds)]


@pytest.mark.parametrize("text", ["2026-11-21T10:14:02Z", "2026-11-21T10:14:02.5Z", "2026-11-21T10:14:02.123456789Z"])
def test_time_of_a_file_gets_the_width_of_a_stamp(text):
    assert full_stamp(text).encode() == stamp(text)
