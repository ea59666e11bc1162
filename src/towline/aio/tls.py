"""What asyncio's and uvloop's TLS transports need to lose nothing when they are paused."""

from __future__ import annotations

import asyncio


def keep_paused_bytes(transport: asyncio.BaseTransport) -> None:
    """Have a TLS transport stop reading its socket as soon as its protocol is paused; nothing for other transports.

    Both loops read on into a buffer of 256 KiB then, and when the other side's end is behind those bytes, uvloop ends
    the connection without handing them over: the last part of an answer is gone, and nobody is told.
    """
    limit = getattr(transport, "set_read_buffer_limits", None)
    if limit is not None:
        limit(high=1, low=0)
