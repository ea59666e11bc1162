"""What becomes of each request of one stream: the head that the API server gets, or the agent's own answer.

The control plane has decided all of this before. The agent decides again as if it had not: identity, path, local
policy; then every claim of identity is taken off, and its own is put on last. No input or output here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import structlog

from towline.agent.errors import KubernetesError, PolicyRefused
from towline.agent.kubernetes.access import forbidden, forbidden_directly
from towline.agent.kubernetes.conversation import Denied, Passed
from towline.agent.kubernetes.credentials import ApiServer
from towline.agent.policy import KubernetesRules
from towline.agent.streams.refusal import Refused
from towline.kube import heads, paths, status
from towline.kube.access import AccessTuple, derive
from towline.kube.errors import RequestRefused
from towline.kube.identity import BadIdentity, Identity, check
from towline.wire import streams
from towline.wire.http1 import Framing, RequestHead
from towline.wire.http1_build import Line, build_answer, build_request_head

_REQUEST_ID = re.compile(rb"[0-9A-Za-z._-]{1,64}")
NOT_TAKEN = "the cluster does not take the credentials of its agent at the moment"
_DIRECT_UPGRADE = "without an identity nothing is upgraded"

_log = structlog.get_logger("towline.agent")


def admit(target: streams.Kube) -> Identity | None:
    """Return whose requests a stream carries; None for the agent's own.

    Raises: Refused: no identity, one that nobody may have, or one beside `direct`.
    """
    if target.direct:
        if target.user or target.groups or target.extra:
            raise Refused("forbidden", "a stream with the agent's own rights must not name an identity")
        return None
    identity = Identity(target.user, target.groups, target.extra)
    try:
        check(identity)
    except BadIdentity as error:
        raise Refused("forbidden", str(error)) from error
    return identity


class Gate:
    """Judges the requests of one stream.

    Args: server: what the stream is connected to. current: the same with fresh credentials. rules: the local policy,
    as it is now. Both may raise what their owners raise. forget: the credentials were not taken, read them anew.
    """

    def __init__(
        self,
        identity: Identity | None,
        server: ApiServer,
        current: Callable[[], ApiServer],
        rules: Callable[[], KubernetesRules],
        forget: Callable[[], None] = lambda: None,
    ) -> None:
        self._identity = identity
        self._server = server
        self._current = current
        self._rules = rules
        self._passed: AccessTuple | None = None
        self._forget = forget
        self._last: RequestHead | None = None

    def __repr__(self) -> str:
        return f"<Gate of {self._identity.user if self._identity else 'the agent itself'}>"

    def judge(self, head: RequestHead) -> Passed | Denied:
        """Decide one request."""
        path, _, query = head.target.partition(b"?")
        try:
            access = derive(head.method, paths.check_path(path), query)
        except RequestRefused as error:
            return self._deny(head, 400, str(error))
        try:
            reason = self._forbidden(access)
            server = self._current()
        except PolicyRefused as error:
            return self._deny(head, 403, str(error))
        except KubernetesError as error:
            return self._deny(head, 503, str(error))
        if reason:
            return self._deny(head, 403, reason)
        if not server.is_same_place(self._server):
            return self._deny(head, 503, "the API server's address or certificates have changed; ask again", ends=True)
        upgrade = head.upgrade if heads.upgrade_wanted(access, head.method, head.upgrade) else None
        if upgrade is not None and self._identity is None:
            return self._deny(head, 403, _DIRECT_UPGRADE)
        self._passed, self._last = access, head
        return Passed(self._head(head, server, upgrade), upgrade is not None, access.is_proxy)

    def not_taken(self) -> bytes:
        """Return the answer in place of a 401, which would tell the client that its own token is no good."""
        self._forget()
        head = self._last
        assert head is not None
        _log.warning("credentials not taken", method=head.method.decode())
        return answer(503, NOT_TAKEN, head.path, head.method == b"HEAD", True)

    def withdrawn(self) -> str:
        """Return why the last request that passed would not pass now; empty while it would."""
        if self._passed is None:
            return ""
        try:
            return self._forbidden(self._passed)
        except PolicyRefused as error:
            return str(error)

    def _forbidden(self, access: AccessTuple) -> str:
        reason = forbidden(self._rules(), access)
        return reason or (forbidden_directly(access) if self._identity is None else "")

    def _head(self, head: RequestHead, server: ApiServer, upgrade: bytes | None) -> bytes:
        fields = head.fields
        own = [*_framing(head), *heads.upgrade_lines(upgrade)]
        proof = server.authorization or b""
        if self._identity is None:
            lines = heads.towards_api_direct(fields, authorization=proof, host=server.authority, own=own)
        else:
            lines = heads.towards_api(
                fields,
                authorization=proof,
                host=server.authority,
                identity=self._identity,
                request_id=_request_id(fields),
                own=own,
            )
        if not proof:  # the client certificate speaks for the agent
            lines = [line for line in lines if line[0] != b"Authorization"]
        return build_request_head(head.method, head.target, lines)

    def _deny(self, head: RequestHead, code: int, reason: str, *, ends: bool = False) -> Denied:
        user = self._identity.user if self._identity is not None else "(agent)"
        _log.info("request refused", user=user, method=head.method.decode(), code=code, reason=reason)
        return Denied(functools.partial(answer, code, reason, head.path, head.method == b"HEAD"), ends)


def answer(code: int, reason: str, path: bytes, is_head: bool, ends: bool) -> bytes:
    """Return a whole answer of the agent's own, in the form that Kubernetes clients show to people."""
    if status.prefers_text(path):
        body, kind = reason.encode(), b"text/plain"
    else:
        body, kind = status.status(code, "", reason), b"application/json"
    whole = build_answer(code, body, kind, [(b"warning", status.warning(reason))], close=ends)
    return whole[: -len(body)] if is_head else whole


def _framing(head: RequestHead) -> list[Line]:
    lines: list[Line] = []
    if head.framing is Framing.CHUNKED:
        lines.append((b"Transfer-Encoding", b"chunked"))
    elif head.content_length_field:
        lines.append((b"Content-Length", b"%d" % head.content_length))
    if head.expects_continue:
        lines.append((b"Expect", b"100-continue"))
    return lines


def _request_id(fields: heads.Fields) -> str:
    value = next((value for name, _, value in fields if name == b"x-request-id"), b"")
    return value.decode("ascii") if _REQUEST_ID.fullmatch(value) else ""
