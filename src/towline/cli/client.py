"""The command line's view of the API: JSON calls, streamed answers and WebSockets, with errors translated once."""

import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import httpx

from towline import __version__
from towline.cli import trust
from towline.cli.credentials import Login
from towline.cli.errors import AWAY, CliError, from_answer
from towline.cli.sse import ServerEvent, parse_events

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 60.0
"""Seconds between two reads of an ordinary answer; followed streams have no such limit."""
PAGE = 200
MAX_MESSAGE_BYTES = 1024 * 1024
KEY_BYTES = 16
"""Of an idempotency key: two are never the same."""
SEND_AGAIN_AFTER = (0.5, 2.0)
"""Seconds; a server that is restarted answers again after a moment, and who waits at a terminal waits no longer."""


class Client:
    """One signed-in user at one server. Close it after use."""

    def __init__(self, login: Login, *, transport: httpx.BaseTransport | None = None) -> None:
        self.login = login
        self._trust = trust.context(login.authority) if login.url.startswith("https:") else None
        self._http = httpx.Client(
            base_url=login.url + "/api/v1/",
            headers=_headers(login),
            timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT),
            verify=self._trust if self._trust else True,
            transport=transport,
        )

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        return self.call("POST", path, body={} if body is None else body, query=query)

    def call(
        self, method: str, path: str, *, body: Any = None, query: dict[str, Any] | None = None, key: str = ""
    ) -> Any:
        """Make one call and return its JSON; None for an empty answer. Raises: CliError.

        Args: key: under which it may be sent again without doing anything again.
        """
        headers = {"Idempotency-Key": key} if key else None
        with _reachable(self.login.url):
            answer = self._http.request(method, path, json=body, params=_filled(query), headers=headers)
        return _result(answer, f"{method} /api/v1/{path}")

    def post_once(self, path: str, body: Any) -> Any:
        """POST what must not happen twice; sent again when the answer to it was lost. Raises: CliError."""
        key = secrets.token_hex(KEY_BYTES)
        was_sent = False
        for pause in SEND_AGAIN_AFTER:
            try:
                return self.call("POST", path, body=body, key=key)
            except CliError as error:
                was_sent = was_sent or not isinstance(error.__cause__, httpx.ConnectError)
                if error.code != AWAY or not was_sent:
                    raise
            time.sleep(pause)
        return self.call("POST", path, body=body, key=key)

    def upload(self, path: str, content: bytes, media_type: str) -> Any:
        """PUT raw bytes and return the JSON of the answer."""
        with _reachable(self.login.url):
            answer = self._http.put(path, content=content, headers={"Content-Type": media_type})
        return _result(answer, f"PUT /api/v1/{path}")

    def items(self, path: str, *, most: int = 10_000, **query: Any) -> Iterator[dict[str, Any]]:
        """Yield every entry of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **query, limit=min(PAGE, most), cursor=cursor)
            for entry in page["items"]:
                yield entry
                most -= 1
                if not most:
                    return
            cursor = page.get("next_cursor")
            if not cursor:
                return

    def events(self, path: str, **query: Any) -> Iterator[ServerEvent]:
        """Yield server-sent events until the server ends the stream."""
        headers = {"Accept": "text/event-stream"}
        with self._stream("GET", path, query, headers) as answer:
            yield from parse_events(answer.iter_lines())

    def raw(self, path: str, *, accept: str, **query: Any) -> Iterator[bytes]:
        """Yield the bytes of a streamed answer as they come."""
        with self._stream("GET", path, query, {"Accept": accept}) as answer:
            yield from answer.iter_raw()

    @contextlib.contextmanager
    def _stream(
        self, method: str, path: str, query: dict[str, Any], headers: dict[str, str]
    ) -> Iterator[httpx.Response]:
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT)
        with (
            _reachable(self.login.url),
            self._http.stream(method, path, params=_filled(query), headers=headers, timeout=timeout) as answer,
        ):
            if answer.status_code >= 400:
                answer.read()
                _result(answer, f"{method} /api/v1/{path}")
            yield answer

    @contextlib.asynccontextmanager
    async def websocket(self, path: str, query: list[tuple[str, str]]) -> AsyncIterator["ClientConnection"]:
        """Open a WebSocket below `/api/v1/`. Raises: CliError: refused, with the server's reason."""
        from websockets.asyncio.client import connect  # only three commands need it, and it takes a while
        from websockets.exceptions import InvalidStatus, WebSocketException

        parts = urlsplit(self.login.url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        url = urlunsplit((scheme, parts.netloc, f"/api/v1/{path}", urlencode(query), ""))
        headers = _headers(self.login)
        try:
            async with connect(
                url, ssl=self._trust, additional_headers=headers, max_size=MAX_MESSAGE_BYTES, compression=None,
                open_timeout=CONNECT_TIMEOUT, user_agent_header=None,
            ) as socket:  # fmt: skip
                yield socket
        except InvalidStatus as error:
            raise from_answer(
                error.response.status_code, _json(bytes(error.response.body or b"")), request=path
            ) from error
        except (OSError, WebSocketException) as error:
            raise CliError(f"the connection to {self.login.url} broke: {error}", code=AWAY) from error


def anonymous(url: str, authority: str) -> httpx.Client:
    """Return a plain HTTP client for what needs no token: signing in."""
    return httpx.Client(
        base_url=url + "/api/v1/", timeout=READ_TIMEOUT, verify=trust.context(authority), headers=_agent()
    )


def sign_in(url: str, authority: str, body: dict[str, Any]) -> dict[str, Any]:
    """Exchange user name and password for a token."""
    with _reachable(url), anonymous(url, authority) as http:
        answer = http.post("login", json=body)
    result: dict[str, Any] = _result(answer, "POST /api/v1/login")
    return result


def quoted(name: str) -> str:
    """Return a name as one path segment."""
    return quote(name, safe="")


def _headers(login: Login) -> dict[str, str]:
    return _agent() | {"Authorization": f"Bearer {login.token}"}


def _agent() -> dict[str, str]:
    return {"User-Agent": f"towline-cli/{__version__}"}


def _filled(query: dict[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (query or {}).items() if value not in (None, "", [], False)}


def _result(answer: httpx.Response, request: str) -> Any:
    body = _json(answer.content)
    if answer.status_code >= 400:
        raise from_answer(answer.status_code, body, request=request)
    return body


def _json(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return None


@contextlib.contextmanager
def _reachable(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectError as error:
        hint = "is its certificate one you trust? sign in again with `towline login`" if "CERT" in str(error) else ""
        raise CliError(f"cannot reach {url}: {error}", hint=hint, code=AWAY) from error
    except httpx.TimeoutException as error:
        raise CliError(f"{url} did not answer in time", code=AWAY) from error
    except httpx.TransportError as error:
        raise CliError(f"the connection to {url} broke: {error}", code=AWAY) from error
