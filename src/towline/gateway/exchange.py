"""One request on its way: from its accepted head to the end of its answer.

The exchange moves bytes between a client connection and an upstream connection and owns the state of both bodies. It
is driven by callbacks alone: no task, no queue. Bytes that one side cannot take yet pause the other side.

    client body   reading ──────────────▶ done
    answer        awaited ──▶ streaming ──▶ done     (1xx answers pass while it is awaited)
    after a 101   piped: raw bytes both ways, each direction ends by itself
"""

import asyncio
import enum
import time
from typing import TYPE_CHECKING

from towline.gateway.accounting import account
from towline.gateway.error_pages import page_of
from towline.gateway.errors import UpstreamAway, UpstreamError, error_body, words_for_clients
from towline.gateway.headers import answer_lines, claims_identity, status_line, upstream_head
from towline.gateway.interfaces import Answer, Connector, Peer, RouteKind, ToTarget
from towline.wire.http1 import Framing, HeadError, RequestHead, ResponseHead
from towline.wire.http1_body import BodyReader, ChunkedReader, body_reader, encode_chunk, encode_last_chunk
from towline.wire.http1_build import build_answer

if TYPE_CHECKING:
    from towline.gateway.client import ClientConnection
    from towline.gateway.route_figures import RouteFigure
    from towline.gateway.upstream import Pool, UpstreamConnection

REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that may go once more when a pooled connection died unused; safe ones only, and never with a body."""


class Phase(enum.Enum):
    """How far the answer is."""

    AWAITED = "awaited"
    STREAMING = "streaming"
    PIPED = "piped"
    OVER = "over"


# Looking a member up in its class costs as much as a call, and a request asks twenty times.
_AWAITED, _STREAMING, _PIPED, _OVER = Phase.AWAITED, Phase.STREAMING, Phase.PIPED, Phase.OVER
_NONE, _LENGTH, _CHUNKED, _UNTIL_CLOSE = Framing.NONE, Framing.LENGTH, Framing.CHUNKED, Framing.UNTIL_CLOSE
_EDGE, _API, _TARGET = RouteKind.EDGE, RouteKind.API, RouteKind.TARGET


class Exchange:
    """See the module. Created by a client connection for each request that goes to an upstream.

    `decided.DecidedExchange` overrides how requests to clusters differ: those methods stay, by name.
    """

    _is_rewriting = False
    """The body of the answer changes on its way."""

    __slots__ = (
        "_answer_framing",
        "_answer_reader",
        "_client",
        "_client_ended",
        "_first_bytes",
        "_has_answer_bytes",
        "_has_gone_again",
        "_interim",
        "_is_chunked_to_client",
        "_keep_client",
        "_keep_upstream",
        "_mark_at",
        "_mark_bytes",
        "_pool",
        "_reader",
        "_upstream_ended",
        "detail",
        "figure",
        "head",
        "identity_dropped",
        "kind",
        "peer",
        "phase",
        "published",
        "received_bytes",
        "request_id",
        "route",
        "sent_bytes",
        "started_at",
        "status",
        "upstream",
    )

    def __init__(self, client: "ClientConnection", head: RequestHead, peer: Peer, request_id: str) -> None:
        self.head = head
        self.peer = peer
        self.request_id = request_id
        self.kind = _EDGE
        self.phase = _AWAITED
        self.status = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.identity_dropped = claims_identity(head)
        self.upstream: UpstreamConnection | None = None
        self._client = client
        self.route = ""
        self.published: ToTarget | None = None
        self.figure: RouteFigure | None = None
        self._mark_at = 0.0
        self._mark_bytes = 0
        self._has_gone_again = False
        self._pool: Pool | None = None
        self._reader: BodyReader | None = None
        if head.framing is not _NONE:
            self._reader = body_reader(head.framing, head.content_length)
        self._answer_framing = _NONE
        self._answer_reader: BodyReader | None = None
        self.detail = ""
        self._first_bytes = b""
        self._has_answer_bytes = False
        self._interim = 0
        self._is_chunked_to_client = False
        self._keep_client = head.keep_alive
        self._keep_upstream = False
        self._client_ended = False
        self._upstream_ended = False
        self.started_at = time.monotonic()

    def __repr__(self) -> str:
        body = "done" if self.is_request_done else "reading"
        return f"<Exchange {self.request_id} {self.kind.value} body={body} answer={self.phase.value}>"

    @property
    def is_piped(self) -> bool:
        """True after a 101: bytes pass both ways until both sides have ended."""
        return self.phase is _PIPED

    @property
    def is_answered(self) -> bool:
        """True once a byte of the final answer may have reached the client."""
        return self.phase is not _AWAITED

    @property
    def is_request_done(self) -> bool:
        """True when the client has sent the whole request."""
        return self._reader is None or self._reader.is_done

    @property
    def route_id(self) -> str:
        """The id of the published route, empty for anything else."""
        return self.published.id if self.published is not None else ""

    # the request

    def forward(self, route: ToTarget | None, connector: Connector) -> None:
        """Send the request on: to the API when there is no route, else to its target."""
        if route is None:
            self.kind = _API
            host = None
        else:
            self.belong_to(route)
            host = route.host
        self._send_to(connector, upstream_head(self.head, self.peer, self.request_id, host=host, is_api=route is None))

    def belong_to(self, route: ToTarget) -> None:
        """Count the request among those of a published route."""
        self.kind = _TARGET
        self.route = route.name
        self.published = route
        self.figure = figure = self._client.context.figures.of(route)
        figure.open += 1

    def _send_to(self, connector: Connector, first: bytes) -> None:
        context = self._client.context
        options = context.options
        timeout = options.api_idle_timeout if self.kind is _API else options.pool_idle_timeout
        self._pool = context.pools.get(connector, idle_timeout=timeout)
        if self._reader is not None:
            try:
                first += self._read_body(self._client.buffer.take())
            except HeadError as error:
                self._fail(error.status, error.code, str(error))
                return
        self._start(first, fresh=self.head.upgrade is not None)

    def _start(self, first: bytes, *, fresh: bool) -> None:
        assert self._pool is not None
        self._first_bytes = first if self._may_repeat else b""
        connection = self._pool.start(self, first, fresh=fresh)
        if connection.transport is None and not self.is_request_done and self.phase is _AWAITED:
            self._client.pause_for_upstream()

    @property
    def _may_repeat(self) -> bool:
        return self.head.method in REPEATABLE and self.head.framing is _NONE and self.head.upgrade is None

    def client_data(self, data: bytes) -> None:
        """Take bytes from the client: more of the body, or of the pipe."""
        if self.phase is _PIPED:
            self.received_bytes += len(data)
            if self.upstream is not None:
                self.upstream.write(data)
            return
        try:
            out = self._read_body(data)
        except HeadError as error:
            self._fail(error.status, error.code, str(error))
            return
        if out and self.upstream is not None:
            self.upstream.write(out)

    def _read_body(self, data: bytes) -> bytes:
        """Return what to send upstream for these bytes; what follows the body goes back to the client's buffer."""
        reader = self._reader
        assert reader is not None
        pieces = reader.feed(data)
        if reader.is_done:
            self._client.buffer.feed(reader.rest)
        if self.head.framing is not _CHUNKED:
            body = pieces[0] if pieces else b""
            self.received_bytes += len(body)
            return body
        chunk = encode_chunk(pieces)
        self.received_bytes += len(chunk)
        if reader.is_done:
            assert isinstance(reader, ChunkedReader)
            chunk += encode_last_chunk(reader.trailers)
        return chunk

    # the client

    def client_eof(self) -> bool:
        """The client ended its side; return True to keep the other one open."""
        if self.phase is not _PIPED:
            return self.is_request_done
        self._client_ended = True
        if self.upstream is not None:
            self.upstream.write_eof()
        return not self._end_pipe_if_over()

    def client_gone(self) -> None:
        """The client's connection is lost: cancel what runs for it."""
        if self.phase is _OVER:
            return
        outcome = "upgraded" if self.phase is _PIPED else "client_gone"
        self._drop_upstream()
        self._finish(outcome)

    def client_is_full(self) -> None:
        """The client does not take more: stop reading the answer."""
        if self.upstream is not None:
            self.upstream.pause()

    def client_has_room(self) -> None:
        """Go on with the answer."""
        if self.upstream is not None:
            self.upstream.resume()

    def body_too_slow(self) -> None:
        """The client sends its body slower than it may."""
        self._fail(408, "slow_body", "the request body arrives too slowly")

    def withdraw(self) -> None:
        """End it: the route was taken away."""
        if self.phase is not _OVER:
            self._fail(404, "route_gone", "no route answers for this address any more")

    def check(self, now: float) -> None:
        """End what has been silent for too long; called by the sweep, which also finds out that something moved."""
        limit = self._silence_limit()
        if not limit:
            return
        moved = self.received_bytes + self.sent_bytes
        if moved != self._mark_bytes or not self._mark_at:
            self._mark_at, self._mark_bytes = now, moved
        elif now - self._mark_at > limit:
            self._fail(504, "upstream_timeout", "the target did not answer in time")

    def _silence_limit(self) -> float:
        """Return the seconds without a byte either way that are borne now; 0: any."""
        if self.kind is _TARGET and self.phase is _AWAITED:
            return self._client.context.options.answer_timeout
        return 0.0

    # the upstream

    def upstream_connected(self) -> None:
        """A new connection was made; the first bytes are on their way."""
        self._client.resume_for_upstream()

    def upstream_is_full(self) -> None:
        """The upstream does not take more: stop reading the client."""
        self._client.pause_for_upstream()

    def upstream_has_room(self) -> None:
        """Read on from the client."""
        self._client.resume_for_upstream()

    def upstream_failed(self, error: UpstreamError) -> None:
        """No connection could be made."""
        self.upstream = None
        self._fail_upstream(error)

    def upstream_data(self, data: bytes) -> None:
        """Take bytes of the answer."""
        upstream = self.upstream
        assert upstream is not None
        if self.phase is _STREAMING:
            self._pass_body(data, b"")
            return
        if self.phase is _PIPED:
            self._send(data)
            return
        self._has_answer_bytes = True
        buffer, pool = upstream.buffer, self._pool
        assert pool is not None
        try:
            cut = buffer.feed_and_cut(data)
            while cut is not None:
                self._take_head(pool.read_head(cut))
                cut = buffer.cut() if self.phase is _AWAITED else None
        except HeadError:
            self._fail(502, "bad_answer", "the target sent a malformed answer")

    def upstream_eof(self) -> bool:
        """The upstream ended its side of a pipe; return True to keep the other one open."""
        self._upstream_ended = True
        self._client.write_eof()
        return not self._end_pipe_if_over()

    def upstream_lost(self, error: UpstreamError, *, is_clean: bool) -> None:
        """The upstream's connection is gone."""
        lost, self.upstream = self.upstream, None
        if self.phase is _PIPED:
            if self._client.is_ending:
                return  # the last bytes are on their way to the client, who may take longer than the stream stays
            self._client.close() if is_clean or self._upstream_ended else self._client.abort()
            self._finish("upgraded")
        elif self.phase is _STREAMING:
            if is_clean and self._answer_framing is _UNTIL_CLOSE:
                self._end_answer()
            else:
                self._break_off("upstream_lost")
        elif lost is not None and lost.is_reused and not self._has_answer_bytes and self._may_repeat:
            self._client.context.counters.retries += 1
            self._start(self._first_bytes, fresh=True)
        elif self.kind is _TARGET and isinstance(error, UpstreamAway) and self._may_go_again:
            self._has_gone_again = True
            # not at once: who lost the tunnel has still to hear of it, before another agent is looked for
            asyncio.get_running_loop().call_soon(self._go_again)
        else:
            self._fail_upstream(error)

    @property
    def _may_go_again(self) -> bool:
        return not self._has_gone_again and not self._has_answer_bytes and self._may_repeat

    def _go_again(self) -> None:
        """Send the request once more, through another agent of the same cluster."""
        if self.phase is not _AWAITED:
            return
        self._client.context.counters.retries += 1
        self._start(self._first_bytes, fresh=True)

    # the answer

    def _take_head(self, answer: ResponseHead) -> None:
        if answer.status >= 200:
            self._begin_answer(answer)
        elif answer.status == 101:
            self._begin_pipe(answer)
        else:
            self._pass_interim(answer)

    def _pass_interim(self, answer: ResponseHead) -> None:
        self._interim += 1
        if self._interim > self._client.context.options.max_interim_answers:
            raise HeadError(502, "bad_answer", "too many interim answers")
        wanted = self.head.expects_continue if answer.status == 100 else self.head.minor == 1
        if wanted:
            self._send(b"%s%s\r\n" % (status_line(answer), self._answer_lines(answer)))

    def _answer_lines(self, answer: ResponseHead) -> bytes:
        """Return the lines of an answer that travel on, kept with the answer once they were made."""
        return answer.passed_on or answer_lines(answer, self._client.context.options.cookie_zone)

    def _begin_answer(self, answer: ResponseHead) -> None:
        upstream = self.upstream
        assert upstream is not None
        self._answer_framing = framing = answer.framing_for(self.head.method)
        self.phase = _STREAMING
        self.status = answer.status
        self._keep_upstream = answer.keep_alive and framing is not _UNTIL_CLOSE and self.head.upgrade is None
        if not self.is_request_done or self.head.upgrade is not None or self._client.must_close:
            self._keep_client = False
        head = b"%s%s%s\r\n" % (status_line(answer), self._answer_lines(answer), self._framing_lines(answer, framing))
        if framing is _NONE:
            self._send(head)
            self._end_answer()
            return
        body = upstream.buffer.take()
        if (
            framing is _LENGTH and len(body) == answer.content_length and not self._is_rewriting
        ):  # a short answer is usually whole
            self._send(head + body)
            self._end_answer()
            return
        self._answer_reader = self._body_reader(body_reader(framing, answer.content_length or 0))
        self._pass_body(body, head)

    def _body_reader(self, reader: BodyReader) -> BodyReader:
        """Return what reads the body of the answer."""
        return reader

    def _framing_lines(self, answer: ResponseHead, framing: Framing) -> bytes:
        """Say once how the body ends, and whether the connection does."""
        lines = b""
        if framing in (_CHUNKED, _UNTIL_CLOSE):
            if self.head.minor == 1:
                self._is_chunked_to_client = True
                lines = b"Transfer-Encoding: chunked\r\n"
            else:
                self._keep_client = False
        elif answer.content_length is not None and answer.status >= 200 and answer.status != 204:
            lines = b"Content-Length: %d\r\n" % answer.content_length
        if not self._keep_client:
            return lines + b"Connection: close\r\n"
        return lines + b"Connection: keep-alive\r\n" if self.head.minor == 0 else lines

    def _pass_body(self, data: bytes, head: bytes) -> None:
        """Send a part of the answer; head, body and end of a short one go in a single write."""
        reader = self._answer_reader
        assert reader is not None
        try:
            pieces = reader.feed(data) if data else []
        except HeadError:
            self._break_off("bad_answer")
            return
        if self._is_chunked_to_client:
            out = head + encode_chunk(pieces)
            if reader.is_done:
                out += encode_last_chunk(getattr(reader, "trailers", []))
        elif len(pieces) == 1 and not head:
            out = pieces[0]
        else:
            out = b"".join([head, *pieces])
        if out:
            self._send(out)
        if reader.is_done:
            self._end_answer()

    def _end_answer(self) -> None:
        """The whole answer is with the client's transport."""
        upstream, self.upstream = self.upstream, None
        reader = self._answer_reader
        is_request_done = self.is_request_done
        if upstream is None:
            rest = self._last_piece()
            if self._is_chunked_to_client:
                self._send(encode_chunk([rest]) + encode_last_chunk([]))
            elif rest:
                self._send(rest)
        elif self._keep_upstream and is_request_done and (reader is None or not reader.rest):
            upstream.release()
        else:
            upstream.close()
        self._finish("done")
        self._client.exchange_done(keep=self._keep_client and is_request_done, linger=not is_request_done)

    def _last_piece(self) -> bytes:
        """Return what is still to be sent of a body that ended with its connection."""
        return b""

    def _begin_pipe(self, answer: ResponseHead) -> None:
        """Turn both connections into a pipe, when the upstream switched to what the client asked for."""
        upstream = self.upstream
        assert upstream is not None
        wanted = self.head.upgrade
        if wanted is None or answer.upgrade is None or answer.upgrade.lower() != wanted.lower():
            raise HeadError(502, "bad_answer", "the target switched to a protocol that nobody asked for")
        self.phase = _PIPED
        self.status = 101
        self._client.context.counters.upgrades += 1
        switch = b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n" % answer.upgrade
        head = status_line(answer) + self._answer_lines(answer) + switch
        self._send(head + self._behind_switch(upstream.buffer.take()))
        held = self._client.begin_pipe()
        if held:
            self.client_data(held)

    def _behind_switch(self, data: bytes) -> bytes:
        """Return what the client gets behind the head of a 101."""
        return data

    def _end_pipe_if_over(self) -> bool:
        if not (self._client_ended and self._upstream_ended):
            return False
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()
        self._finish("upgraded")
        self._client.close()
        return True

    # the end

    def _send(self, data: bytes) -> None:
        self.sent_bytes += len(data)
        self._client.write(data)

    def answer(self, answer: Answer) -> None:
        """Let the edge itself answer; a request body that nobody reads ends the connection."""
        self.status = answer.status
        keep = self._keep_client and self.is_request_done and not self._client.must_close
        body, content_type = answer.body, answer.content_type
        if body is None:
            body, content_type = self._error_body(answer)
        data = build_answer(answer.status, body, content_type, answer.lines, close=not keep)
        self._send(data[: -len(body)] if body and self.head.method == b"HEAD" else data)
        linger = not self.is_request_done
        self._finish(answer.code)
        self._client.exchange_done(keep=keep, linger=linger)

    def _error_body(self, answer: Answer) -> tuple[bytes, bytes]:
        """Return body and content type: a page for people at published names, JSON for everybody else."""
        if self.kind is _TARGET or self.kind is _EDGE:
            return page_of(answer, self.head, self.request_id)
        return error_body(answer.code, answer.message, self.request_id), b"application/json"

    def _fail(self, status: int, code: str, message: str) -> None:
        """Answer with an error, or break off when the answer has begun."""
        if self.is_answered:
            self._break_off(code)
            return
        self._drop_upstream()
        self._client.context.counters.refused[code] += 1
        self.answer(Answer(status, code, message))

    def _fail_upstream(self, error: UpstreamError) -> None:
        self.detail = str(error)
        self._fail(error.status, error.code, words_for_clients(error))

    def _break_off(self, outcome: str) -> None:
        """Cut the client off, so that it cannot take a part of an answer for the whole."""
        self._drop_upstream()
        self._finish(outcome)
        self._client.abort()

    def _drop_upstream(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()

    def _finish(self, outcome: str) -> None:
        self.phase = _OVER
        account(self, self._client.context, outcome)
