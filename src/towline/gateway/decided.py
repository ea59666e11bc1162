"""An exchange whose route has to be looked up first, and which then treats head, answer and errors in its own way.

Requests to clusters are such. They pay for it; requests to published services and to the API do not. Until the
decision the client's body stays where it is, and nothing of the request has left the edge.
"""

import time
from typing import TYPE_CHECKING

import structlog

from towline.aio.tasks import OwnerClosed
from towline.gateway.errors import UpstreamError, words_for_clients
from towline.gateway.exchange import Exchange, Phase
from towline.gateway.interfaces import (
    Answer,
    Decided,
    Ended,
    Later,
    Peer,
    RouteKind,
    Tap,
    ToCluster,
    Treatment,
    Witness,
)
from towline.wire.http1 import HeadError, RequestHead, ResponseHead

if TYPE_CHECKING:
    import asyncio

    from towline.gateway.client import ClientConnection

FAILED = "the request could not be decided"
GONE = "the connection to the cluster broke; what was started may still run"

_log = structlog.get_logger("towline.edge")


class DecidedExchange(Exchange):
    """See the module. `cut` ends it from outside, at any time."""

    __slots__ = ("_cut_code", "_deciding", "_later", "_lines", "_tap", "_treatment", "_witness")

    def __init__(
        self, client: "ClientConnection", head: RequestHead, peer: Peer, request_id: str, later: Later
    ) -> None:
        super().__init__(client, head, peer, request_id)
        self.kind = RouteKind.KUBERNETES
        self._later = later
        self._deciding: asyncio.Task[Decided] | None = None
        self._treatment: Treatment | None = None
        self._lines = b""
        self._tap: Tap | None = None
        self._witness: Witness | None = None
        self._cut_code = ""
        if head.upgrade is not None:
            self._keep_client = False  # what follows is the other protocol's, or nothing (CVE-2018-1002105)

    # the decision

    def decide(self) -> None:
        """Ask where the request goes; what is known already costs no task."""
        if not self.is_request_done:
            self._client.pause_for_upstream()
        try:
            found = self._later.decide(self.head, self.peer, self.request_id)
            if isinstance(found, Answer | ToCluster):
                self._go(found)
                return
            self._deciding = self._client.context.decisions.spawn("decide", found)
        except OwnerClosed:
            self._go(self._refusal(503, "stopping", "this server stops"))
        except Exception:
            _log.exception("deciding failed", host=self.head.host, request=self.request_id)
            self._go(self._refusal(500, "internal", FAILED))
        else:
            self._deciding.add_done_callback(self._decided)

    def _decided(self, task: "asyncio.Task[Decided]") -> None:
        self._deciding = None
        if self.phase is Phase.OVER:
            return
        if task.cancelled():
            self._go(self._refusal(503, "stopping", "this server stops"))
        elif task.exception() is not None:  # logged by the owner of the task
            self._go(self._refusal(500, "internal", FAILED))
        else:
            self._go(task.result())

    def _go(self, found: Decided) -> None:
        if isinstance(found, Answer):
            self.answer(found)
            return
        try:
            self._forward_to(found)
        except Exception:
            _log.exception("forwarding failed", host=self.head.host, request=self.request_id)
            self._client.abort()

    def _forward_to(self, route: ToCluster) -> None:
        context = self._client.context
        self.route = route.name
        self._pool = context.pools.get(route.connector, idle_timeout=context.options.pool_idle_timeout)
        first = route.treatment.upstream_head(self.head, self.request_id)
        self._treatment = route.treatment
        route.treatment.begin(self.cut)
        if self._reader is not None:
            try:
                first += self._read_body(self._client.buffer.take())
            except HeadError as error:
                self._fail(error.status, error.code, str(error))
                return
        self._client.resume_for_upstream()
        self._start(first, fresh=self.head.upgrade is not None)

    def cut(self, code: str, why: str) -> None:
        """End the request now: with a refusal while nothing was answered, else by breaking it off."""
        if self.phase is Phase.OVER:
            return
        self._cut_code, self.detail = code, why
        self._fail(403, code, why)

    # what differs from other exchanges

    def client_data(self, data: bytes) -> None:
        if self._treatment is None:
            self._client.buffer.feed(data)
            return
        super().client_data(data)
        if self._tap is not None:
            self._tap.up(data)
        if self._witness is not None:
            self._witness.from_client(data)

    def upstream_data(self, data: bytes) -> None:
        if self._witness is not None:
            self._witness.from_target(data)
        tap = self._tap
        if tap is None:
            super().upstream_data(data)
            return
        self._send(tap.announced(data))
        tap.down(data)

    def upstream_eof(self) -> bool:
        self._say_last_words()
        return super().upstream_eof()

    def client_gone(self) -> None:
        if self._deciding is not None:
            self._deciding.cancel()
        super().client_gone()

    def upstream_lost(self, error: UpstreamError, *, is_clean: bool) -> None:
        if not is_clean and not self.detail:
            self.detail = str(error)
        super().upstream_lost(error, is_clean=self._say_last_words() or is_clean)

    def _take_head(self, answer: ResponseHead) -> None:
        assert self._treatment is not None
        self._lines = self._treatment.answer_lines(answer)  # before anything of the answer was sent
        if self.phase is not Phase.OVER:  # it may have been cut because of this answer
            super()._take_head(answer)

    def _behind_switch(self, data: bytes) -> bytes:
        assert self._treatment is not None
        self._tap = tap = self._treatment.tap()
        return data if tap is None else tap.opening() + tap.announced(data)

    def _begin_pipe(self, answer: ResponseHead) -> None:
        upstream = self.upstream
        assert upstream is not None
        first = upstream.buffer.take()
        upstream.buffer.feed(first)
        assert self._treatment is not None
        self._witness = self._treatment.witness(answer)
        if self._witness is not None:
            self._witness.from_target(first)
        super()._begin_pipe(answer)
        if self._tap is not None and first:
            self._tap.down(first)

    def _answer_lines(self, answer: ResponseHead) -> bytes:
        return self._lines

    def _break_off(self, outcome: str) -> None:
        if not self._say_last_words():
            super()._break_off(outcome)
            return
        self._drop_upstream()
        self._finish(outcome)
        self._client.close()

    def _say_last_words(self) -> bool:
        """Tell the client how its pipe ends, if the other side has not. Returns: whether there was something to say."""
        witness, self._witness = self._witness, None
        words = witness.last_words(self.detail if self._cut_code else GONE) if witness is not None else b""
        if words and not self._client.is_ending:
            self._send(words)
        return bool(words)

    def _refusal(self, status: int, code: str, message: str, error: UpstreamError | None = None) -> Answer:
        return self._later.refusal(self.head, status, code, message, error)

    def _fail(self, status: int, code: str, message: str) -> None:
        self._refuse(status, code, message, None)

    def _fail_upstream(self, error: UpstreamError) -> None:
        self.detail = str(error)
        self._refuse(error.status, error.code, words_for_clients(error), error)

    def _refuse(self, status: int, code: str, message: str, error: UpstreamError | None) -> None:
        if self.is_answered:
            self._break_off(code)
            return
        self._drop_upstream()
        self._client.context.counters.refused[code] += 1
        self.answer(self._refusal(status, code, message, error))

    def _finish(self, outcome: str) -> None:
        super()._finish(self._cut_code or outcome)
        treatment, self._treatment, self._tap = self._treatment, None, None
        if treatment is not None:
            seconds = time.monotonic() - self.started_at
            treatment.end(
                Ended(
                    self.status,
                    self._cut_code or outcome,
                    self.detail,
                    self.received_bytes,
                    self.sent_bytes,
                    seconds,
                )
            )
