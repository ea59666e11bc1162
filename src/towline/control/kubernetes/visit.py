"""One request that goes to a cluster: the head that the agent gets, the answer that the client gets, and its end.

Implements `gateway.interfaces.Treatment`. Decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from towline.control.access.actor import Actor
from towline.control.kubernetes.places import Place
from towline.control.kubernetes.requests import Asked
from towline.control.kubernetes.shell_recording import ShellRecording
from towline.gateway.interfaces import Ended, Tap
from towline.kube import heads
from towline.kube.errors import BadAnswer
from towline.kube.last_words import CommandWitness
from towline.wire.http1 import Framing, HeadError, RequestHead, ResponseHead

HOST = b"kubernetes"
"""The agent puts the name of its API server here; the client's Host means nothing behind the tunnel."""
_COMMANDS = frozenset({"exec", "attach"})
_WITH_STATUS = frozenset({b"v4.channel.k8s.io", b"v5.channel.k8s.io"})
"""Protocols whose error stream carries a Status."""
_OF_THE_SWITCH = frozenset({b"connection", b"upgrade", b"content-length", b"transfer-encoding"})


class Host(Protocol):
    """Who keeps the requests that run."""

    def began(self, visit: Visit) -> None: ...
    def ended(self, visit: Visit, how: Ended) -> None: ...


class Visit:
    """See the module. `cut(code, why)` ends it."""

    __slots__ = ("_host", "_recording", "actor", "asked", "cut", "is_recorded", "place", "roles")

    def __init__(
        self, host: Host, asked: Asked, actor: Actor, place: Place, roles: tuple[str, ...], *, is_recorded: bool
    ) -> None:
        self._host = host
        self.asked = asked
        self.actor = actor
        self.place = place
        self.roles = roles
        self.is_recorded = is_recorded
        self._recording: ShellRecording | None = None
        self.cut: Callable[[str, str], None] | None = None

    def __repr__(self) -> str:
        access = self.asked.access
        return f"<Visit {self.actor.username} {self.place.name} {access.verb} {access.kind or access.path}>"

    def upstream_head(self, head: RequestHead, request_id: str) -> bytes:
        lines = [
            *heads.towards_agent(self.asked.fields),
            (b"X-Request-Id", request_id.encode("ascii")),
            *_framing(head),
            *heads.upgrade_lines(head.upgrade),
        ]
        fields = b"".join([b"%s: %s\r\n" % line for line in lines])
        return b"%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (head.method, self.asked.address.target, HOST, fields)

    def answer_lines(self, answer: ResponseHead) -> bytes:
        try:
            lines = self._lines(answer)
        except BadAnswer as error:
            raise HeadError(502, "bad_answer", str(error)) from error
        return b"".join([b"%s: %s\r\n" % line for line in lines])

    def _lines(self, answer: ResponseHead) -> list[heads.Line]:
        if answer.status == 101:
            lines = [line for line in heads.switched(answer.fields) if line[0].lower() not in _OF_THE_SWITCH]
            return lines if self._recording is None else lines + self._recording.switched(answer)
        if self.asked.is_upgrade and 300 <= answer.status < 400:
            raise BadAnswer("the API server redirects a request that asked for an upgrade")  # CVE-2020-8559
        return heads.answer(answer.fields, prefix=self.asked.address.prefix, access=self.asked.access)

    def record(self, recording: ShellRecording) -> None:
        """The shell that this request opens is recorded."""
        self._recording = recording

    @property
    def note(self) -> bytes:
        """What the user is told in their terminal; empty when nothing is recorded."""
        return b"" if self._recording is None else self._recording.note

    def tap(self) -> Tap | None:
        return None if self._recording is None else self._recording.tap

    def witness(self, answer: ResponseHead) -> CommandWitness | None:
        """A command by SPDY ends well for kubectl up to 1.28 unless its error stream says otherwise."""
        access, said = self.asked.access, answer.get(b"x-stream-protocol-version")
        is_command = access.subresource in _COMMANDS and (answer.upgrade or b"").lower() == b"spdy/3.1"
        return CommandWitness() if is_command and said in _WITH_STATUS else None

    def begin(self, cut: Callable[[str, str], None]) -> None:
        self.cut = cut
        if self._recording is not None:
            self._recording.claim(cut)
        self._host.began(self)

    def end(self, ended: Ended) -> None:
        if self._recording is not None:
            self._recording.end(ended)
        self._host.ended(self, ended)


def _framing(head: RequestHead) -> list[heads.Line]:
    lines = []
    if head.expects_continue:
        lines.append((b"Expect", b"100-continue"))
    if head.framing is Framing.CHUNKED:
        lines.append((b"Transfer-Encoding", b"chunked"))
    elif head.framing is Framing.LENGTH or head.content_length_field:
        lines.append((b"Content-Length", b"%d" % head.content_length))
    return lines
