"""Pods as rows of a list: asked of the API server as a Table, a page at a time, then followed by a watch.

A Table holds for each pod what kubectl prints, some 300 bytes instead of ten thousand; the words are the operator's
own. What is sent to the page is one line of JSON for each step, so that 5,000 pods need no memory here.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from towline.control.access.actor import Access
from towline.control.errors import ApiError, ErrorCode
from towline.control.kubernetes.kinds import PODS
from towline.control.kubernetes.talking import Question, Talker, decoded
from towline.control.streams.answer import ClientGone, while_wanted
from towline.kube.troubles import AGAIN, HEALTHY_RUN

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
PAGE_ROWS = 500
"""As many as kubectl asks for at once."""
MOST_LINE_BYTES = 4 * 1024 * 1024
"""Of one event of a watch: a row and the object's metadata; etcd keeps no object above 1.5 MiB."""
NDJSON = "application/x-ndjson"
_STARTING = frozenset({"Pending", "ContainerCreating", "PodInitializing", "Terminating"})
_ENDED = frozenset({"Completed", "Succeeded"})
_RESTARTS = re.compile(r"(\d+) \((?:(\d+)m)?(?:(\d+)s)? ago\)")
"""As kubectl writes when the last of some restarts was; in hours and days it is long ago."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pod as the list shows it."""

    namespace: str
    name: str
    ready: str
    status: str
    tone: str
    restarts: str
    node: str
    created_at: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of them."""

    rows: list[Row]
    columns: Mapping[str, int]
    version: str
    more: str


async def first(talker: Talker, access: Access, cluster: str, namespace: str, most: int, more: str = "") -> Rows:
    """Return one page. Raises: ApiError."""
    query = {"limit": str(most)} | ({"continue": more} if more else {})
    table = await talker.get(access, cluster, PODS.path(namespace, **query), TABLE)
    columns = columns_of(table)
    metadata = table.get("metadata") or {}
    rows = [row_of(one, columns) for one in table.get("rows") or ()]
    return Rows(rows, columns, str(metadata.get("resourceVersion", "")), str(metadata.get("continue", "")))


def columns_of(table: Mapping[str, Any]) -> dict[str, int]:
    """Return at which place each column stands."""
    return {str(one["name"]).lower(): at for at, one in enumerate(table.get("columnDefinitions") or ())}


def row_of(row: Mapping[str, Any], columns: Mapping[str, int]) -> Row:
    """Return a row of a Table as ours."""
    cells: Sequence[Any] = row.get("cells") or ()
    metadata = (row.get("object") or {}).get("metadata") or {}

    def cell(name: str) -> str:
        at = columns.get(name, len(cells))
        return str(cells[at]) if at < len(cells) else ""

    status, ready, restarts = cell("status"), cell("ready"), cell("restarts")
    if metadata.get("deletionTimestamp"):
        status = "Terminating"
    return Row(
        namespace=str(metadata.get("namespace", "")), name=str(metadata.get("name", "")) or cell("name"),
        ready=ready, status=status, tone=tone(status, ready, restarts), restarts=restarts,
        node="" if cell("node") == "<none>" else cell("node"), created_at=str(metadata.get("creationTimestamp") or ""),
    )  # fmt: skip


def tone(status: str, ready: str, restarts: str = "") -> str:
    """Return which of the five states a pod is in."""
    if status in _ENDED:
        return "unknown"
    if status in _STARTING or (status.startswith(("Init:", "PodInitializing")) and "Err" not in status):
        return "down" if "BackOff" in status else "working"
    if status == "Running":
        up, _, all_of_them = ready.partition("/")
        return "healthy" if up == all_of_them and not _begins_again(restarts) else "degraded"
    return "down"


def _begins_again(restarts: str) -> bool:
    """Tell whether a pod that runs began again and again, and not long ago: its next end is likely near."""
    found = _RESTARTS.fullmatch(restarts)
    if found is None:
        return False
    times, minutes, seconds = (int(part or 0) for part in found.groups())
    return times >= AGAIN and minutes * 60 + seconds < HEALTHY_RUN


class RowStream(Response):
    """Streams rows until the reader leaves: `{rows}` for each page, `{synced}`, then `{put}` and `{gone}`."""

    def __init__(self, talker: Talker, access: Access, cluster: str, namespace: str) -> None:
        super().__init__(media_type=NDJSON, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._talker = talker
        self._access = access
        self._cluster = cluster
        self._namespace = namespace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        with suppress(ClientGone):
            await while_wanted(receive, self._copy(send))

    async def _copy(self, send: Send) -> None:
        try:
            async for line in self._lines():
                await send({"type": "http.response.body", "body": _encoded(line), "more_body": True})
        except ApiError as error:
            body = _encoded({"error": error.message, "hint": error.hint})
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _lines(self) -> AsyncIterator[dict[str, Any]]:
        more = ""
        while True:
            page = await first(self._talker, self._access, self._cluster, self._namespace, PAGE_ROWS, more)
            yield {"rows": [asdict(row) for row in page.rows]}
            more = page.more
            if not more:
                break
        yield {"synced": True}
        query = {"watch": "1", "resourceVersion": page.version, "allowWatchBookmarks": "1"}
        question = Question(PODS.path(self._namespace, **query), accept=TABLE)
        async with self._talker.asked(self._access, self._cluster, question) as answer:
            async for line in lines(answer.pieces()):
                for change in changes(decoded(line), page.columns):
                    yield change


def changes(event: Mapping[str, Any], columns: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Return what an event of the watch changes; an error ends the stream, and the page asks anew."""
    kind, table = event.get("type"), event.get("object") or {}
    if kind == "BOOKMARK":
        return
    if kind == "ERROR":
        yield {"error": str(table.get("message") or "the watch ended"), "again": True}
        return
    for one in table.get("rows") or ():
        row = row_of(one, columns)
        yield {"gone": row.key} if kind == "DELETED" else {"put": asdict(row)}


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Cut bytes into lines. Raises: ApiError: one that is too long."""
    held = b""
    async for piece in pieces:
        *whole, held = (held + piece).split(b"\n")
        for line in whole:
            if line:
                yield line
        if len(held) > MOST_LINE_BYTES:
            raise ApiError(ErrorCode.TOO_LARGE, "an event of the API server is too large for a page")


def _encoded(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
