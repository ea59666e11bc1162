"""The audit log of a real API server says how it read each request; our reading and our slow model of it say the same.

Everything is asked as a user without rights, so that nothing happens: a request is read before it is refused.
"""

import http.client
import json
import random
import re
import ssl
import uuid
from collections.abc import Iterator

import pytest
from tests.testbed.kubernetes.cluster import Cluster
from tests.unit.kube import server_algorithm
from tests.unit.kube.test_kube_access import SELECTOR_CASES, SERVER_CASES, WATCH_CASES
from tests.unit.kube.test_kube_fuzz import accident, check

from towline.kube.access import BadPath, BadRequest, derive
from towline.kube.paths import check_path

pytestmark = pytest.mark.kubernetes

SEED = 20261121
MUTATED_REQUESTS = 600
SENDABLE = re.compile(rb"[!-\"$-~]*")

Request = tuple[bytes, bytes, bytes]


class Asker:
    """Sends raw targets to the API server as somebody who may do nothing, and finds them in its audit log."""

    def __init__(self, cluster: Cluster) -> None:
        trust = ssl.create_default_context(cafile=str(cluster.home / "authority.crt"))
        self._token = (cluster.home / "tokens.csv").read_text().split(",")[0]
        self._connection = http.client.HTTPSConnection("127.0.0.1", cluster.api_port, timeout=10, context=trust)
        self._log = (cluster.home / "log" / "audit.log").open("rb")
        self._log.seek(0, 2)

    def close(self) -> None:
        self._connection.close()
        self._log.close()

    def ask(self, request: Request) -> str:
        """Send one request. Returns: the id that marks it in the audit log."""
        method, path, query = request
        mark = str(uuid.uuid4())
        target = path + (b"?" + query if query else b"")
        self._connection.putrequest(method.decode(), target.decode())
        self._connection.putheader("Authorization", f"Bearer {self._token}")
        self._connection.putheader("Impersonate-User", "towline:nobody")
        self._connection.putheader("Impersonate-Group", "towline:role:none")
        self._connection.putheader("Audit-Id", mark)
        self._connection.putheader("Content-Length", "0")
        self._connection.endheaders()
        with self._connection.getresponse() as answer:
            answer.read()
        return mark

    def readings(self) -> dict[str, server_algorithm.Reading]:
        """How the server read what was asked since the last call; it writes a request down before it answers."""
        events = [json.loads(line) for line in self._log]
        return {event["auditID"]: reading_of(event) for event in events if event["stage"] == "RequestReceived"}


def reading_of(event: dict[str, object]) -> server_algorithm.Reading:
    about = event.get("objectRef")
    if not isinstance(about, dict):
        return server_algorithm.Reading(str(event["verb"]), is_resource=False)
    names = ("apiGroup", "apiVersion", "resource", "subresource", "namespace", "name")
    return server_algorithm.Reading(str(event["verb"]), *(about.get(name, "") for name in names))


@pytest.fixture
def asker() -> Iterator[Asker]:
    asker = Asker(Cluster())
    yield asker
    asker.close()


def accepted(request: Request) -> bool:
    """True for a request that our rules let through and that can be sent as one line."""
    method, path, query = request
    try:
        derive(method, check_path(path), query)
    except (BadPath, BadRequest):
        return False
    return method.isalpha() and method.isupper() and all(SENDABLE.fullmatch(part) for part in (path, query))


def compare(asker: Asker, requests: list[Request]) -> None:
    marks = [asker.ask(request) for request in requests]
    found = asker.readings()
    for mark, request in zip(marks, requests, strict=True):
        method, path, query = request
        model = server_algorithm.read(method.decode(), check_path(path).decode(), query)
        assert found[mark] == model, request
        check(*request)


def test_table_of_accesses_is_what_the_server_audits(asker: Asker) -> None:
    compare(asker, [case[:3] for case in SERVER_CASES])


def test_queries_mean_what_the_server_audits(asker: Asker) -> None:
    queries = [query for query, _ in (*WATCH_CASES, *SELECTOR_CASES)]
    compare(asker, [(b"GET", b"/api/v1/namespaces/a/pods", query) for query in queries])


def test_mutated_requests_are_read_as_the_server_audits_them(asker: Asker) -> None:
    generator = random.Random(SEED)
    requests = [request for request in (accident(generator) for _ in range(MUTATED_REQUESTS * 10)) if accepted(request)]
    assert len(requests) > MUTATED_REQUESTS
    compare(asker, requests[:MUTATED_REQUESTS])
