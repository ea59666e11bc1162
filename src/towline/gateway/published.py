"""An exchange on a route with options: who may come, what is rewritten, and which of several targets is asked.

Routes without options never come here. Until a visitor is known the client's body stays where it is.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from towline.aio.tasks import OwnerClosed
from towline.gateway.compression import CompressingReader, compressed_lines, may_compress
from towline.gateway.cookies import host_only
from towline.gateway.error_pages import page_of
from towline.gateway.errors import UpstreamAway, UpstreamError
from towline.gateway.exchange import Exchange, Phase
from towline.gateway.headers import upstream_head
from towline.gateway.interfaces import Answer, Connector, Peer, ToTarget, Visitor
from towline.gateway.limited_body import limited_reader
from towline.gateway.route_policy import RoutePolicy
from towline.wire.http1 import Framing, RequestHead, ResponseHead
from towline.wire.http1_body import BodyReader

if TYPE_CHECKING:
    import asyncio

    from towline.gateway.balancing import Member
    from towline.gateway.client import ClientConnection

RECHECK_INTERVAL = 10.0
"""Seconds between two looks at whether a visitor of something long may still be there."""

_AWAITED, _OVER = Phase.AWAITED, Phase.OVER
_STOPPING = Answer(503, "stopping", "this server stops")
_log = structlog.get_logger("towline.edge")


class PublishedExchange(Exchange):
    """See the module."""

    __slots__ = ("_admitting", "_is_rewriting", "_is_sent", "_looked_at", "_member", "_policy", "_tried")

    def __init__(
        self, client: "ClientConnection", head: RequestHead, peer: Peer, request_id: str, policy: RoutePolicy
    ) -> None:
        super().__init__(client, head, peer, request_id)
        self._policy = policy
        self._admitting: asyncio.Task[Visitor | Answer] | None = None
        self._member: Member | None = None
        self._tried: list[Member] = []
        self._is_sent = False
        self._is_rewriting = False
        self._looked_at = self._client.context.now()

    # letting in

    def begin(self, route: ToTarget) -> None:
        """Answer, ask who it is, or send the request on."""
        self.belong_to(route)
        now = self._client.context.now()
        self._policy.used_at = now
        answer = self._policy.early_answer(self.head, self.peer, now)
        if answer is not None:
            self.answer(answer)
            return
        visitor = self._policy.known_visitor(self.head)
        if visitor is not None:
            self._go(visitor)
        else:
            self._find_out()

    def _find_out(self) -> None:
        if not self.is_request_done:
            self._client.pause_for_upstream()
        try:
            admission = self._policy.admit(self.head, self.peer)
            self._admitting = self._client.context.decisions.spawn("admit", admission)
        except OwnerClosed:
            self.answer(_STOPPING)
        else:
            self._admitting.add_done_callback(self._found_out)

    def _found_out(self, task: "asyncio.Task[Visitor | Answer]") -> None:
        self._admitting = None
        if self.phase is _OVER:
            return
        if task.cancelled():
            self.answer(_STOPPING)
        elif task.exception() is not None:  # logged by the owner of the task
            self.answer(Answer(500, "internal", "the request could not be decided"))
        else:
            found = task.result()
            if isinstance(found, Answer):
                self.answer(found)
                return
            self._client.resume_for_upstream()
            try:
                self._go(found)
            except Exception:
                _log.exception("forwarding failed", host=self.head.host, request=self.request_id)
                self._client.abort()

    def _go(self, visitor: Visitor) -> None:
        policy = self._policy
        connector = self._connector()
        if connector is None:
            self._fail_upstream(UpstreamAway("no target of this route can be asked"))
            return
        if policy.options.body_limit and self._reader is not None:
            self._reader = limited_reader(self._reader, policy.options.body_limit)
        self._is_sent = True
        first = upstream_head(self.head, self.peer, self.request_id, host=policy.host, is_api=False)
        self._send_to(connector, policy.request_head(first, visitor))

    # long ones

    def check(self, now: float) -> None:
        super().check(now)
        if self._policy.options.sign_in and self.is_answered and now - self._looked_at > RECHECK_INTERVAL:
            self._looked_at = now
            self._look_again()

    def _look_again(self) -> None:
        """End a WebSocket or a long answer soon after its visitor may not have it any more."""
        if self.phase is _OVER or self._admitting is not None or self._policy.known_visitor(self.head) is not None:
            return
        with suppress(OwnerClosed):
            admission = self._policy.admit(self.head, self.peer)
            self._admitting = self._client.context.decisions.spawn("admit again", admission)
            self._admitting.add_done_callback(self._looked_again)

    def _looked_again(self, task: "asyncio.Task[Visitor | Answer]") -> None:
        self._admitting = None
        if self.phase is _OVER or task.cancelled() or task.exception() is not None:
            return  # nothing new is known, as when the database is away: what runs goes on
        if isinstance(task.result(), Answer):
            self._break_off("access_lost")

    def client_data(self, data: bytes) -> None:
        if not self._is_sent:
            self._client.buffer.feed(data)
            return
        super().client_data(data)

    def client_gone(self) -> None:
        if self._admitting is not None:
            self._admitting.cancel()
        super().client_gone()

    # several targets

    def _connector(self) -> Connector | None:
        balanced = self._policy.balanced
        if balanced is None:
            return self._policy.route.connector
        member = balanced.choose(self._client.context.now(), self._tried)
        if member is None:
            return None
        self._leave_member()
        self._member = member
        self._tried.append(member)
        member.open += 1
        return member.connector

    def _leave_member(self) -> None:
        member, self._member = self._member, None
        if member is not None:
            member.open -= 1

    def _fail_upstream(self, error: UpstreamError) -> None:
        if self._member is not None and (error.refusal or isinstance(error, UpstreamAway)):
            self._member.failed(self._client.context.now())
            if self._go_elsewhere():
                return
        super()._fail_upstream(error)

    @property
    def _may_go_again(self) -> bool:
        return self._member is None and super()._may_go_again  # several targets: `_go_elsewhere`

    def _go_elsewhere(self) -> bool:
        """Ask another target, when nothing of the request can have had an effect."""
        if self.phase is not _AWAITED or self._has_answer_bytes or not self._first_bytes:
            return False
        connector = self._connector()
        if connector is None:
            return False
        context = self._client.context
        context.counters.retries += 1
        self._pool = context.pools.get(connector, idle_timeout=context.options.pool_idle_timeout)
        self._start(self._first_bytes, fresh=False)
        return True

    # the answer

    def _take_head(self, answer: ResponseHead) -> None:
        if self._member is not None:
            self._member.answered()
        super()._take_head(answer)

    def _begin_answer(self, answer: ResponseHead) -> None:
        self._is_rewriting = self._policy.options.compression and may_compress(self.head, answer)
        super()._begin_answer(answer)

    def _answer_lines(self, answer: ResponseHead) -> bytes:
        block = self._policy.answer_lines(super()._answer_lines(answer), self.peer)
        zone = self._client.context.options.cookie_zone
        if zone and self._policy.sets_cookies:
            block = host_only(block, zone)
        return compressed_lines(block) if self._is_rewriting else block

    def _framing_lines(self, answer: ResponseHead, framing: Framing) -> bytes:
        return super()._framing_lines(answer, Framing.CHUNKED if self._is_rewriting else framing)

    def _body_reader(self, reader: BodyReader) -> BodyReader:
        return CompressingReader(reader) if self._is_rewriting else reader

    def _last_piece(self) -> bytes:
        reader = self._answer_reader
        return reader.finish() if isinstance(reader, CompressingReader) else b""

    def _error_body(self, answer: Answer) -> tuple[bytes, bytes]:
        return page_of(answer, self.head, self.request_id, self._policy.options.error_page)

    def _silence_limit(self) -> float:
        options = self._policy.options
        return options.request_timeout if self.phase is _AWAITED else options.idle_timeout

    def _finish(self, outcome: str) -> None:
        self._leave_member()
        super()._finish(outcome)
