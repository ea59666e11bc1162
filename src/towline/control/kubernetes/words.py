"""The errors of Kubernetes access, in the shape that every client of Kubernetes understands.

Each is a Status and a warning with the same sentence: kubectl drops the sentence of a Status while it discovers an
API, and prints warnings always. Never a Retry-After, which makes kubectl repeat a request for minutes; never a
redirect; never an HTML page. Pure. Source: kubernetes.md 1.4.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlencode

from towline.gateway.errors import UpstreamError
from towline.gateway.interfaces import Answer
from towline.kube import status
from towline.kube.access import AccessTuple

NO_TOKEN = "send a token of Towline: `towline kubeconfig` writes a configuration that does"  # noqa: S105 - words
BAD_TOKEN = "the token is unknown, expired or revoked"  # noqa: S105
NOT_A_CLUSTER = "this address names no cluster; it is /k8s/clusters/NAME, in lower case"
IMPERSONATES = "impersonation (--as) is not served: Towline says itself who a request is made for"
BAD_UPGRADE = "this request cannot be upgraded; only exec, attach, port-forward and proxy can"
TOKEN_IN_PROTOCOL = "a token in Sec-WebSocket-Protocol is not taken; send it as Authorization"  # noqa: S105

LONGEST_PATH = 200
"""Characters of a path that an address in a sentence repeats."""


def answer(code: int, message: str, *, word: str = "") -> Answer:
    """Return an error. Args: word: the stable word for logs and metrics."""
    reason = status.reason_of(code)
    lines = ((b"Warning", status.warning(message)),)
    return Answer(code, word or reason.lower(), message, status.status(code, reason, message), lines=lines)


def unknown_cluster(name: str) -> Answer:
    """The same words whether the cluster does not exist or the caller may not see it."""
    return answer(404, f'there is no cluster "{name}" here that you may see', word="unknown_cluster")


def forbidden(cluster: str, access: AccessTuple, rule: str) -> str:
    """Say who may not do what, and by which rule."""
    what = f"{access.verb} {access.kind}" if access.is_resource else f"{access.verb} {access.path}"
    where = f" in namespace {access.namespace}" if access.namespace else ""
    return f"you may not {what}{where} on {cluster}: {rule}"


def explained_at(cluster: str, access: AccessTuple) -> str:
    """Return where on this server somebody finds what they may do, with this question asked already."""
    asked = {"verb": access.verb}
    if access.is_resource:
        plain = f"{access.resource}.{access.group}" if access.group else access.resource
        asked |= {"resource": f"{plain}/{access.subresource}" if access.subresource else plain}
        asked |= {"namespace": access.namespace} if access.namespace else {}
    else:
        asked |= {"resource": access.path[:LONGEST_PATH]}
    return f"/clusters/{cluster}/access?{urlencode(asked, safe='/')}"


def lost(name: str, status_code: int, code: str, message: str, error: UpstreamError | None) -> Answer:
    """Return the error of a request that the edge could not carry to its end.

    Args: code, message: what the edge says. error: how the way to the API server failed, when it did.
    """
    if error is None:
        return answer(_CUT.get(code, status_code), message, word=code)
    known = _REFUSED.get(error.refusal)
    if known is not None:
        code_of, word, sentence = known
        return answer(code_of, sentence(name, _cause(error)), word=word)
    if error.refusal:
        return answer(502, f"the agent of {name} refused: {_cause(error)}", word="agent_refused")
    return answer(502, f"the connection to {name} was lost before it answered", word="cut")


_CUT = {"unauthenticated": 401, "access_lost": 403, "stopping": 503, "unrecordable": 403, "recording_lost": 403}


def _cause(error: UpstreamError) -> str:
    return str(error).removeprefix(f"{error.refusal}: ") or error.refusal


def _away(name: str, cause: str) -> str:
    return f"no agent of {name} is connected; `towline agent doctor` on its side says why"


def _forbidden(name: str, cause: str) -> str:
    return f"the agent of {name} refuses this by its own policy: {cause}"


def _silent(name: str, cause: str) -> str:
    return f"the API server of {name} does not answer its agent: {cause}"


def _busy(name: str, cause: str) -> str:
    return f"too many streams of {name} are open; try again"


def _unsupported(name: str, cause: str) -> str:
    return f"the agent of {name} serves no Kubernetes: {cause}"


_REFUSED: dict[str, tuple[int, str, Callable[[str, str], str]]] = {
    "away": (503, "agent_away", _away),
    "forbidden": (403, "agent_forbids", _forbidden),
    "unreachable": (504, "api_unreachable", _silent),
    "timeout": (504, "api_timeout", _silent),
    "not_found": (504, "api_unreachable", _silent),
    "busy": (503, "agent_busy", _busy),
    "full": (503, "agent_busy", _busy),
    "unsupported": (503, "agent_unsupported", _unsupported),
}
