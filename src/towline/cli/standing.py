"""Hands the agent's own code to the server, which imports none of it: it stands in where an older agent cannot."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towline.aio.clock import Clock
    from towline.aio.sockets import Line
    from towline.control.protocols.standins import StandIn
    from towline.wire import link


def stand_in(
    *,
    folder: Path,
    way: "Callable[[], Awaitable[Line]]",
    token: Callable[[], str],
    authorities: Callable[[], str],
    tell: "Callable[[link.Message], Awaitable[None]]",
    clock: "Clock",
) -> "StandIn":
    """Make one; the code is loaded with the first, since most servers need none."""
    from towline.agent import standin

    return standin.StandIn(folder=folder, way=way, token=token, authorities=authorities, tell=tell, clock=clock)
