"""A small client of one cluster's API, through the control plane; for those without kubectl. No Kubernetes library."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx

from towline import __version__
from towline.cli import trust
from towline.cli.client import CONNECT_TIMEOUT, READ_TIMEOUT, quoted
from towline.cli.credentials import Login
from towline.cli.errors import AWAY, FAILED, NOT_ALLOWED, NOT_FOUND, USAGE, CliError

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

PREFIX = "/k8s/clusters/"
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of one exec message: API servers cut output at 32 KiB, older ones do not."""
PING_INTERVAL = 5.0
PING_TIMEOUT = 60.0
"""As kubectl: it gives up after a minute without an answer. Source: kubernetes.md 2.3."""
_BY_STATUS = {
    400: USAGE, 401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND, 422: USAGE, 502: AWAY, 503: AWAY, 504: AWAY,
}  # fmt: skip

Query = Sequence[tuple[str, str]]


class ClusterApi:
    """The API of one cluster, as one user. Close it after use."""

    def __init__(self, login: Login, cluster: str) -> None:
        self.cluster = cluster
        self._login = login
        self._trust = trust.context(login.authority) if login.url.startswith("https:") else None
        self._http = httpx.Client(
            base_url=f"{login.url}{PREFIX}{quoted(cluster)}",
            headers=self._headers(),
            timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            verify=self._trust if self._trust else True,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, query: Query = (), *, accept: str = "application/json") -> Any:
        """Return one answer as JSON. Raises: CliError."""
        with self._reachable():
            answer = self._http.get(path, params=list(query), headers={"Accept": accept})
        if answer.status_code >= 400:
            raise refusal(answer.status_code, answer.content)
        try:
            return answer.json()
        except ValueError as error:
            raise CliError(f"{self.cluster} answered {path} with something that is no JSON") from error

    def stream(self, path: str, query: Query = ()) -> Iterator[bytes]:
        """Yield the bytes of an answer as they come. Raises: CliError: refused, or cut off before its end."""
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
        with self._reachable(), self._http.stream("GET", path, params=list(query), timeout=timeout) as answer:
            if answer.status_code >= 400:
                raise refusal(answer.status_code, answer.read())
            yield from answer.iter_bytes()

    @contextlib.asynccontextmanager
    async def websocket(self, path: str, query: Query, protocols: Sequence[str]) -> AsyncIterator[ClientConnection]:
        """Open a WebSocket. Raises: CliError: refused, with the cluster's reason."""
        from websockets.asyncio.client import connect  # only `exec` needs it, and it takes a while
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.typing import Subprotocol

        parts = urlsplit(f"{self._login.url}{PREFIX}{quoted(self.cluster)}{path}")
        scheme = "wss" if parts.scheme == "https" else "ws"
        url = urlunsplit((scheme, parts.netloc, parts.path, urlencode(query), ""))
        try:
            async with connect(
                url, ssl=self._trust, additional_headers=self._headers(), max_size=MAX_MESSAGE_BYTES, compression=None,
                open_timeout=READ_TIMEOUT, user_agent_header=None, subprotocols=[Subprotocol(one) for one in protocols],
                ping_interval=PING_INTERVAL, ping_timeout=PING_TIMEOUT,
            ) as socket:  # fmt: skip
                yield socket
        except InvalidStatus as error:
            raise refusal(error.response.status_code, bytes(error.response.body or b"")) from error
        except (OSError, WebSocketException) as error:
            raise CliError(f"the connection to {self.cluster} broke: {error}", code=AWAY) from error

    def _headers(self) -> dict[str, str]:
        return {"User-Agent": f"towline-cli/{__version__}", "Authorization": f"Bearer {self._login.token}"}

    @contextlib.contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectError as error:
            raise CliError(f"cannot reach {self._login.url}: {error}", code=AWAY) from error
        except httpx.TimeoutException as error:
            raise CliError(f"{self.cluster} did not answer in time", code=AWAY) from error
        except httpx.TransportError as error:
            raise CliError(f"the answer of {self.cluster} broke off: {error}", code=AWAY) from error


def refusal(status: int, body: bytes) -> CliError:
    """Translate a Status, or whatever came instead of one."""
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    message = str(found.get("message") or "") if isinstance(found, dict) else body.decode("utf-8", "replace").strip()
    first = message.split("\n", 1)[0][:500]
    return CliError(first or f"the cluster answered {status}", code=_BY_STATUS.get(status, FAILED))
