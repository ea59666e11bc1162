"""Config maps that stay while they are deleted, until a test lets go: commands that last as long as it wants."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError

from tests.support.kube_agent import Admin

HOLDS = {"finalizers": ["towline.dev/test"]}


class HeldObjects:
    """Those of one namespace. Args: who: the user in whose name commands are run."""

    def __init__(self, admin: Admin, namespace: str, who: str) -> None:
        self.admin = admin
        self.namespace = namespace
        self.who = who
        self._maps = f"/api/v1/namespaces/{namespace}/configmaps"

    def hold(self, name: str) -> None:
        """Make one that stays when it is deleted."""
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **HOLDS}}
        self.admin.ask("POST", self._maps, body)

    def held(self, name: str) -> Any:
        """Its metadata; None: it is gone."""
        try:
            return self.admin.ask("GET", f"{self._maps}/{name}")["metadata"]
        except HTTPError as error:
            assert error.code == 404
            return None

    def is_being_deleted(self, name: str) -> bool:
        found = self.held(name)
        return found is not None and "deletionTimestamp" in found

    def let_go(self, name: str) -> None:
        change = {"metadata": {"finalizers": None}}
        self.admin.ask("PATCH", f"{self._maps}/{name}", change, "application/merge-patch+json")

    def deletions(self, name: str) -> int:
        """How often the API server was asked to delete one in that name."""
        log = self.admin.cluster.home / "log" / "audit.log"
        found = (json.loads(line) for line in log.read_text().splitlines() if f'"{name}"' in line)
        return sum(
            each["verb"] == "delete" and each["stage"] == "ResponseComplete"
            and (each["objectRef"].get("namespace"), each["objectRef"].get("name")) == (self.namespace, name)
            and each.get("impersonatedUser", {}).get("username") == self.who
            for each in found
        )  # fmt: skip
