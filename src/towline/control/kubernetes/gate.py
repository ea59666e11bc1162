"""The gate in front of clusters: one decision about each request, before anything of it reaches the tunnel.

    address ▶ path and access ▶ token ▶ cluster ▶ roles ▶ identity ▶ record ▶ the agent's stream

What is known from a moment ago is decided at once; the rest takes a look into the database, while the client's body
waits. Everything that is not allowed by a step is refused, and unknown clusters look like those one may not see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from towline.control.access.service import Principal
from towline.control.audit.service import Draft
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes import addresses, audit, grants, shell_recording, tokens, words
from towline.control.kubernetes.connectors import Connectors
from towline.control.kubernetes.figures import Figures
from towline.control.kubernetes.identity import identity_of
from towline.control.kubernetes.live import Visits
from towline.control.kubernetes.places import Place, Places
from towline.control.kubernetes.requests import Asked, understand
from towline.control.kubernetes.sessions import opens_shell
from towline.control.kubernetes.tokens import Bearers
from towline.control.kubernetes.visit import Visit
from towline.control.recordings.service import Recordings
from towline.gateway.errors import UpstreamError
from towline.gateway.interfaces import Answer, Decided, Later, Peer, ToCluster
from towline.kube.errors import BadIdentity, RequestRefused
from towline.kube.heads import claims_impersonation
from towline.wire.http1 import RequestHead

if TYPE_CHECKING:
    from towline.control.settings import Settings

DECISION_TIMEOUT = 10.0
"""Seconds for the look into the database: clients wait 30 s for discovery."""


class Gate:
    """Decides about requests. `route` is what the router answers for each of them."""

    def __init__(
        self,
        settings: Settings,
        bearers: Bearers,
        places: Places,
        visits: Visits,
        records: audit.Records,
        recordings: Recordings,
        connectors: Connectors,
        figures: Figures,
        origin: Callable[[], str],
    ) -> None:
        self._base_host = settings.kubernetes_host
        self._most = settings.kubernetes_requests_per_user
        self._bearers = bearers
        self._places = places
        self._visits = visits
        self._records = records
        self._recordings = recordings
        self._connectors = connectors
        self._figures = figures
        self._origin = origin
        self.route = Later(self.decide, self.refusal)

    def decide(self, head: RequestHead, peer: Peer, request_id: str) -> Decided | Coroutine[Any, Any, Decided]:
        """Decide about one request; see `gateway.interfaces.Later`."""
        address = addresses.find(head, self._base_host)
        if address is None:
            return self._refuse(words.answer(404, words.NOT_A_CLUSTER, word="not_a_cluster"))
        try:
            asked = understand(head, peer, request_id, address)
        except RequestRefused as error:
            return self._refuse(words.answer(400, error.message, word=error.code))
        if asked.is_upgrade and tokens.is_in_protocol(asked.fields):
            return self._refuse(words.answer(400, words.TOKEN_IN_PROTOCOL, word="token_in_protocol"))
        token = tokens.of(asked.fields)
        if not token:
            return self._refuse(words.answer(401, words.NO_TOKEN))
        principal = self._bearers.known(token)
        if principal is not None:
            found, place = self._places.known(principal.actor.org_id, address.cluster)
            if found:
                return self._judge(asked, principal, place)
        return self._look_up(asked, token)

    async def _look_up(self, asked: Asked, token: str) -> Decided:
        try:
            async with asyncio.timeout(DECISION_TIMEOUT):
                principal = await self._bearers.find(token, asked.peer.address)
                if principal is None:
                    return self._refuse(words.answer(401, words.BAD_TOKEN))
                place = await self._places.find(principal.actor.org_id, asked.address.cluster)
                decided = self._judge(asked, principal, place)
                return decided if isinstance(decided, Answer | ToCluster) else await decided
        except ApiError as error:
            return self._refuse(_unavailable(error))
        except TimeoutError:
            return self._refuse(words.answer(503, "the database of Towline does not answer", word="unavailable"))

    async def admit(self, asked: Asked, principal: Principal) -> Decided:
        """Decide about a request that one of our own pages makes for who is signed in to it."""
        try:
            async with asyncio.timeout(DECISION_TIMEOUT):
                place = await self._places.find(principal.actor.org_id, asked.address.cluster)
                decided = self._judge(asked, principal, place)
                return decided if isinstance(decided, Answer | ToCluster) else await decided
        except TimeoutError:
            return self._refuse(words.answer(503, "the database of Towline does not answer", word="unavailable"))

    def _judge(self, asked: Asked, principal: Principal, place: Place | None) -> Decided | Coroutine[Any, Any, Decided]:
        verdict = grants.UNSEEN if place is None else grants.judge(principal.rights, place, asked.access)
        if place is None or not verdict.visible:
            return self._refuse(words.unknown_cluster(asked.address.cluster))
        actor = replace(principal.actor, address=asked.peer.address, request_id=asked.request_id)
        problem = self._problem(asked, verdict, actor.user_id or actor.token_id)
        if problem is not None:
            self._records.note(
                audit.accepted(asked, actor, place, result="refused", reason=problem.message, rule=verdict.rule)
            )
            return self._refuse(problem)
        try:
            target = identity_of(actor, verdict.roles)
        except BadIdentity as error:
            return self._refuse(
                words.answer(403, f"you cannot be named inside a cluster: {error}", word="bad_identity")
            )
        is_recorded = self._records.wants(asked)
        visit = Visit(self._visits, asked, actor, place, verdict.roles, is_recorded=is_recorded)
        route = ToCluster(place.name, self._connectors.get(place.id, target), visit)
        if not is_recorded:
            return route
        event = audit.accepted(
            asked, actor, place, rule=verdict.rule, role=verdict.roles[-1], user=target.user, groups=list(target.groups)
        )
        if opens_shell(asked):
            return self._after_recording(event, route, visit)
        if asked.must_be_recorded:
            return self._after_record(event, route)
        self._records.note(event)
        return route

    def _problem(self, asked: Asked, verdict: grants.Verdict, owner: str) -> Answer | None:
        """Return why a request of somebody who sees the cluster does not go out."""
        if claims_impersonation(asked.fields):
            return words.answer(403, words.IMPERSONATES, word="impersonation")
        if not verdict.allowed:
            return words.answer(403, self._forbidden(asked, verdict.rule), word="forbidden")
        if self._records.is_full:
            return words.answer(503, "the audit log cannot be written, so nothing is let through", word="audit_full")
        if self._visits.of_user(owner) >= self._most:
            return words.answer(429, f"{self._most} requests of yours are open already", word="too_many")
        return None

    def _forbidden(self, asked: Asked, rule: str) -> str:
        cluster, access = asked.address.cluster, asked.access
        page = f"{self._origin()}{words.explained_at(cluster, access)}"
        return f"{words.forbidden(cluster, access, rule)}; what you may do: {page}"

    async def _after_record(self, event: Draft, route: ToCluster) -> Decided:
        try:
            await self._records.write(event)
        except ApiError as error:
            return self._refuse(_unavailable(error))
        return route

    async def _after_recording(self, event: Draft, route: ToCluster, visit: Visit) -> Decided:
        """Let a shell begin when its recording has, if there is to be one."""
        recording = None
        try:
            recording = await shell_recording.begin(self._recordings, visit.asked, visit.actor, visit.place)
            if recording is not None:
                event["detail"]["recording"] = recording.id
                visit.record(recording)
            await self._records.write(event)
        except BaseException as error:
            if recording is not None:
                recording.discard()
            if not isinstance(error, ApiError):
                raise
            if error.code is ErrorCode.FORBIDDEN:
                return self._refuse(words.answer(403, error.message, word="unrecordable"))
            return self._refuse(_unavailable(error))
        return route

    def refusal(self, head: RequestHead, status: int, code: str, message: str, error: UpstreamError | None) -> Answer:
        """Word an error of the edge; see `gateway.interfaces.Later`."""
        address = addresses.find(head, self._base_host)
        return words.lost(address.cluster if address is not None else "it", status, code, message, error)

    def _refuse(self, answer: Answer) -> Answer:
        self._figures.refuse(answer.status, answer.code)
        return answer


def _unavailable(error: ApiError) -> Answer:
    status = 429 if error.code is ErrorCode.THROTTLED else 503
    return words.answer(status, error.message, word=error.code.value)
