"""How the agent stands with its control plane: state, reason, what next. For events, health and figures alike."""

from __future__ import annotations

from typing import Any

from towline.agent.surface.linkstate import Standing
from towline.agent.surface.parts import Parts


def shown(parts: Parts) -> dict[str, Any]:
    """Return it as it is told. Moments are seconds since the epoch, 0 when there is none.

    While a link is tried for, what the last attempt met is newer than what ended the link before.
    """
    view, silence = parts.link.view, parts.silence
    told: dict[str, Any] = {
        "state": view.standing,
        "since": view.since,
        "server": view.server,
        "cluster": view.cluster,
        "last_error": view.last_error,
        "code": view.code,
        "hint": view.hint,
        "attempts": view.attempts,
        "next_attempt_at": view.next_attempt_at,
        "silent_since": 0.0,
        "alert": False,
    }
    status = parts.counts.status()
    if view.standing is Standing.CONNECTING and status.last_error:
        told |= {
            "server": status.server or view.server,
            "last_error": status.last_error,
            "code": status.last_code,
            "hint": status.last_hint,
            "attempts": status.attempts,
            "next_attempt_at": status.next_attempt_at,
        }
    if silence is not None and view.standing is not Standing.CONNECTED and not silence.is_expected:
        told |= {"silent_since": round(silence.since, 1), "alert": silence.alert}
    return told
