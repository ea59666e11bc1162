"""The tap on a shell's bytes: reads along what passes, and says once, at the start, that it does.

Bytes are forwarded before they are read, and never changed but for that one sentence.
"""

from __future__ import annotations

from collections.abc import Callable

from towline.control.recordings.recorder import Recorder
from towline.kube.channels import Decoder, Event, Undecodable, said
from towline.kube.spdy import Announcement, SpdyStreams


class ShellTap:
    """Implements `gateway.interfaces.Tap`.

    Args: unreadable: told why, once, when the bytes cannot be read along any more. exit_of: reads the last status.
    """

    def __init__(
        self,
        recorder: Recorder,
        decoder: Decoder,
        *,
        protocol: str,
        channel: int | None,
        unreadable: Callable[[str], None],
        exit_of: Callable[[bytes], str],
    ) -> None:
        self.recorder = recorder
        self._decoder = decoder
        self._unreadable = unreadable
        self._exit_of = exit_of
        self._is_lost = False
        self._opening = b""
        self._announcement: Announcement | None = None
        if channel is not None and isinstance(decoder, SpdyStreams):
            self._announcement = Announcement(decoder, channel, recorder.note)
        elif channel is not None:
            self._opening = said(protocol, channel, recorder.note)

    def opening(self) -> bytes:
        return self._opening

    def announced(self, data: bytes) -> bytes:
        announcement = self._announcement
        if announcement is None:
            return data
        data = announcement.insert(data)
        if announcement.is_done:
            self._announcement = None
        return data

    def up(self, data: bytes) -> None:
        self._read(self._decoder.up, data)

    def down(self, data: bytes) -> None:
        self._read(self._decoder.down, data)

    def _read(self, take: Callable[[bytes], list[Event]], data: bytes) -> None:
        if self._is_lost or not (self.recorder.is_recording or self._announcement):
            return
        try:
            events = take(data)
        except Undecodable as error:
            self._is_lost, self._announcement = True, None
            self._unreadable(f"it cannot be read along: {error}")
            return
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        recorder, (kind, data) = self.recorder, event
        if kind == "o":
            recorder.output(data)
        elif kind == "i":
            recorder.input(data)
        elif kind == "r":
            columns, _, rows = data.partition(b"x")
            recorder.resized(int(columns), int(rows))
        else:
            recorder.exit = self._exit_of(data)
