"""What stands before all routing on the edge's port, and all there is on the plain one: challenges and redirects."""

from __future__ import annotations

from collections.abc import Callable

from towline.control.certificates.answers import PATH, ChallengeAnswers
from towline.gateway.interfaces import Answer, Peer, Route, Router
from towline.wire.http1 import RequestHead

HTTPS_PORT = 443
_TEXT = b"text/plain; charset=utf-8"
_MOVED = b"This service is at its https:// address.\n"

PlainRoute = Callable[[RequestHead, Peer], Route | None]
"""Finds the route of a name that is served without TLS too; None for one that is not."""


class ChallengesFirst:
    """A router that lets an authority's look pass before anything else."""

    def __init__(self, inner: Router, answers: ChallengeAnswers) -> None:
        self._inner = inner
        self._answers = answers

    def route(self, head: RequestHead, peer: Peer) -> Route:
        if head.path.startswith(PATH):
            found = self._answers.route(head, peer)
            if found is not None:
                return found
        return self._inner.route(head, peer)


class RedirectToHttps:
    """The router of the plain port. Args: port: at which clients reach HTTPS. plain: see there."""

    def __init__(self, answers: ChallengeAnswers, port: Callable[[], int], plain: PlainRoute | None = None) -> None:
        self._answers = answers
        self._port = port
        self._plain = plain

    def route(self, head: RequestHead, peer: Peer) -> Route:
        found: Route | None = self._answers.route(head, peer)
        if found is None and self._plain is not None:
            found = self._plain(head, peer)
        return self._moved(head) if found is None else found

    def _moved(self, head: RequestHead) -> Answer:
        """Methods with a body keep it: 308, where 301 would turn a POST into a GET (RFC 9110 section 15.4)."""
        status = 301 if head.method in (b"GET", b"HEAD") else 308
        port = self._port()
        place = head.host if port == HTTPS_PORT else f"{head.host}:{port}"
        location = b"https://" + place.encode("ascii") + head.target
        return Answer(status, "use_https", "", _MOVED, _TEXT, ((b"location", location),))
