"""`POST /api/tickets`: a token is turned into a ticket for an address that takes no header."""

from __future__ import annotations

from aiohttp import web

from towline.agent.surface.answers import answer
from towline.agent.surface.endpoints import Endpoint, Right
from towline.agent.surface.requests import caller_of
from towline.agent.surface.tickets import TICKET_SECONDS, Tickets

TICKETS: web.AppKey[Tickets] = web.AppKey("tickets", Tickets)


async def give_ticket(request: web.Request) -> web.StreamResponse:
    """Give a ticket with the right of the caller."""
    caller = caller_of(request)
    ticket = request.app[TICKETS].give(caller.right)
    return answer({"ticket": ticket, "right": caller.right.name.lower(), "expires_in": TICKET_SECONDS}, 201)


ENDPOINTS = (
    Endpoint(
        "POST", "/api/tickets", give_ticket, Right.READ,
        "Give a ticket, good once and for 30 seconds, for `?ticket=` of `/ws` and of the event streams.",
        '-X POST -H "Authorization: Bearer $TOKEN" $URL/api/tickets',
        fields=("ticket", "right", "expires_in"),
    ),
)  # fmt: skip
