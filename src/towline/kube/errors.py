"""What the rules of this package can refuse.

KubeError
├── RequestRefused   a client's request; `code` is a stable word, the answer is 400
│   ├── BadPath      its path may be read in two ways
│   └── BadRequest   the API server's own algorithm finds no access tuple that we serve
├── BadIdentity      an identity that must never reach a cluster; the answer is 403
├── BadAnswer        an answer of the API server that must not reach a client; the answer is 502
├── BadWatch         bytes that are no watch answer
├── BadQuantity      not a Kubernetes quantity
└── Undecodable      bytes of a shell that cannot be read along (in `channels`)
"""


class KubeError(Exception):
    """Anything this package refuses. The text is written for the person who sent the request."""


class RequestRefused(KubeError):
    """A request that goes nowhere; `code` is a stable word for logs and metrics, `message` a whole sentence."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BadPath(RequestRefused):
    """Two readers of this path could disagree."""


class BadRequest(RequestRefused):
    """No access can be derived from this request, or one that we do not serve."""


class BadIdentity(KubeError):
    """An identity that is empty, incomplete, privileged, or could not be said in a header."""


class BadAnswer(KubeError):
    """An answer that would lead a client away from the cluster it asked."""


class BadWatch(KubeError):
    """The bytes are not a watch answer, or one event is larger than any object can be."""


class BadQuantity(KubeError, ValueError):
    """The text is not a quantity."""
