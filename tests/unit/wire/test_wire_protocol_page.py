"""The page that is the contract between releases says what the code does."""

import re
from pathlib import Path

import msgspec
import pytest

from towline.tunnel import framing, handshake, inbox, reconnect, websocket
from towline.wire import link, streams, yamux_frames, yamux_model

PAGE = (Path(__file__).parents[3] / "docs" / "wire-protocol.md").read_text()
FLAT = " ".join(PAGE.split())


@pytest.mark.parametrize("name", link.TYPES)
def test_every_message_type_has_its_line(name):
    assert re.search(rf"^\| (server|agent|both) \| `{name}` \|", PAGE, re.MULTILINE)


def test_every_kind_of_target_has_its_line():
    for kind in msgspec.json.schema(streams.Target)["discriminator"]["mapping"]:
        assert f"| `{kind}` |" in PAGE


@pytest.mark.parametrize(
    "code",
    [
        link.CLOSE_FINAL,
        link.CLOSE_UNAUTHENTICATED,
        link.CLOSE_BAD_MESSAGE,
        link.CLOSE_HELLO_TIMEOUT,
        link.CLOSE_DRAINING,
    ],
)
def test_every_close_code_has_its_line(code):
    assert re.search(rf"^\| [\d, ]*{code} \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "sentence",
    [
        f"larger than 1 MiB ({link.MAX_MESSAGE_BYTES})",
        f"more than {inbox.MAX_WAITING_MESSAGES} messages, or {inbox.MAX_WAITING_MESSAGE_BYTES >> 20} MiB",
        f"within {handshake.HELLO_TIMEOUT:g} s of the upgrade, {handshake.UNAUTHENTICATED_BYTES} bytes in all",
        f"within {handshake.READY_TIMEOUT:g} s",
        f"at most 64 KiB ({streams.MAX_HEADER_BYTES})",
        f"the body at most {streams.MAX_FRAME_BYTES >> 10} KiB",
        f"256 KiB ({yamux_frames.INITIAL_WINDOW_BYTES}) of credit",
        f"up to {yamux_model.MAX_WINDOW_BYTES >> 20} MiB",
        f"share {yamux_model.MAX_EXTRA_WINDOW_BYTES >> 20} MiB",
        f"under a round trip of {yamux_model.MIN_ROUND_TRIP_TO_GROW * 1000:g} ms",
        f"{yamux_model.MAX_STREAMS} streams at most",
        f"at most 32 KiB ({yamux_model.MAX_FRAME_BYTES})",
        f"more than {yamux_model.MAX_STRIKES} of these",
        f"{yamux_model.MAX_WAITING_CONTROL_FRAMES} resets and pongs",
        f"more than {websocket.MAX_FRAGMENTS} fragments of a message",
        f"more than {websocket.MAX_PINGS_PER_INTERVAL} pings between two of ours",
        f"ping every {framing.PING_INTERVAL:g} s",
        f"the server every {framing.SERVER_PING_INTERVAL:g} s",
        f"heard nothing for {websocket.QUIET_INTERVAL:g} s",
        f"not a byte was heard for {websocket.SILENCE_TIMEOUT:g} s",
        "Five links in a row that hang",
    ],
)
def test_numbers_are_those_of_the_code(sentence):
    assert sentence in FLAT
    assert reconnect.MAX_HANGS == 5
