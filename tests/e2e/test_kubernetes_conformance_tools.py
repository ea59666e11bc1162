"""Conformance 63, and what other tools need: many watches at once, and the Python client as a controller uses it."""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from tests.support.kubernetes_stack import User

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(180)]

WATCHES = 60


# 63
def test_sixty_watches_of_one_client_leave_room_for_more(seeded: str, ada: User) -> None:
    unlimited = httpx.Limits(max_connections=None)
    with contextlib.ExitStack() as stack, ThreadPoolExecutor(WATCHES) as threads:
        api = stack.enter_context(ada.http(limits=unlimited))

        def watch(number: int) -> str:
            path = f"/api/v1/namespaces/{seeded}/pods?watch=1&timeoutSeconds=60&fieldSelector=metadata.name=talker"
            answer = stack.enter_context(api.stream("GET", f"{path}&labelSelector=n!=x{number}"))
            return str(json.loads(next(answer.iter_lines()))["object"]["metadata"]["name"])

        assert list(threads.map(watch, range(WATCHES))) == ["talker"] * WATCHES
        assert api.get("/version").status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_python_client_lists_watches_and_writes(seeded: str, ada: User) -> None:
    from kubernetes import client, config, watch

    with config.new_client_from_config(str(ada.client().config)) as connection:
        api = client.CoreV1Api(connection)
        names = {pod.metadata.name for pod in api.list_namespaced_pod(seeded).items}
        assert "talker" in names
        body = client.V1ConfigMap(metadata=client.V1ObjectMeta(generate_name="made-"), data={"a": "b"})
        made = api.create_namespaced_config_map("default", body)
        events = watch.Watch()
        changes = events.stream(api.list_namespaced_config_map, "default", timeout_seconds=30)
        assert any(event["object"].metadata.name == made.metadata.name for event in changes)
        events.stop()
        changes.close()
        api.delete_namespaced_config_map(made.metadata.name, "default")
        lines = api.read_namespaced_pod_log("talker", seeded, container="main").splitlines()
    assert sorted(lines[:3]) == ["one", "three", "two"]  # two streams of one container, in no order
