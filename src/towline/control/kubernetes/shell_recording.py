"""The recording of one shell in a pod: begun before its request goes out, tapped when the API server switches.

What is recorded is decided by the policy, what passes is read by the tap; this brings both to one request.
"""

from __future__ import annotations

from collections.abc import Callable

from towline.control.access.actor import Actor
from towline.control.kubernetes import sessions
from towline.control.kubernetes.places import Place
from towline.control.kubernetes.requests import Asked
from towline.control.recordings.policy import Mode, OnUnreadable
from towline.control.recordings.recorder import Recorder
from towline.control.recordings.service import Recordings
from towline.control.recordings.taps import ShellTap
from towline.gateway.interfaces import Ended
from towline.kube import status
from towline.kube.channels import Undecodable
from towline.kube.heads import Line
from towline.wire.http1 import ResponseHead

Cut = Callable[[str, str], None]


async def begin(recordings: Recordings, asked: Asked, actor: Actor, place: Place) -> ShellRecording | None:
    """Begin to record a shell; None when the policy does not ask for it, or lets it go on without.

    Raises: ApiError: it cannot be recorded, and may not be without.
    """
    policy = await recordings.policy(place.id)
    session = sessions.session_of(asked, place)
    if not policy.wants(session) and not (policy.mode is not Mode.OFF and sessions.is_kubelet_shell(asked)):
        return None
    why = sessions.unreadable(asked)
    if why:
        await recordings.unreadable(session, actor, policy, why)
        return None
    recorder = await recordings.begin(session, actor, policy)
    return None if recorder is None else ShellRecording(recordings, recorder, asked, actor)


class ShellRecording:
    """See the module."""

    def __init__(self, recordings: Recordings, recorder: Recorder, asked: Asked, actor: Actor) -> None:
        self._recordings = recordings
        self._recorder = recorder
        self._asked = asked
        self._actor = actor
        self._cut: Cut = lambda code, why: None
        self.tap: ShellTap | None = None

    def __repr__(self) -> str:
        return f"<ShellRecording {self._recorder!r}>"

    @property
    def id(self) -> str:
        return self._recorder.id

    @property
    def note(self) -> bytes:
        return self._recorder.note if self.tap is not None else b""

    def claim(self, cut: Cut) -> None:
        """The request goes out; its end will be told."""
        self._cut = cut
        self._recorder.is_claimed = True

    def switched(self, answer: ResponseHead) -> list[Line]:
        """The shell begins: read along from here on. Returns: header fields that say so."""
        try:
            decoder, protocol = sessions.decoder_of(answer, keys=self._recorder.policy.keys)
        except Undecodable as error:
            self._recorder.begin(lambda why: None)
            self._unreadable(f"it cannot be read along: {error}")
            return []
        self._recorder.begin(lambda why: self._cut("recording_lost", why))
        self.tap = ShellTap(
            self._recorder, decoder, protocol=protocol, channel=sessions.note_channel(self._asked),
            unreadable=self._unreadable, exit_of=sessions.exit_of,
        )  # fmt: skip
        return [(b"Warning", status.warning(self._recorder.note.decode().strip()))]

    def end(self, ended: Ended) -> None:
        """The request is over."""
        if ended.status != 101:
            self._recordings.discard(self._recorder)
            return
        why = ended.detail or ("" if ended.outcome in ("done", "upgraded") else ended.outcome)
        self._recorder.end(why)

    def discard(self) -> None:
        """The request never went out."""
        self._recordings.discard(self._recorder)

    def _unreadable(self, why: str) -> None:
        self._recordings.note_unreadable(self._recorder, self._actor, why)
        if self._recorder.policy.on_unreadable is OnUnreadable.REFUSE:
            self._cut("unrecordable", f"this session must be recorded, and cannot be: {why}")
        self._recorder.lose(why)
