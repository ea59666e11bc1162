"""Which tests run beside which: those of one file stay together, and all that share a Docker engine or a cluster."""

from xdist.scheduler import LoadScopeScheduling

SHARED = {
    "tests/integration/kubernetes/": "kubernetes",
    "tests/e2e/test_kubernetes_": "kubernetes",
    "tests/e2e/test_gateway_story": "kubernetes",
    "tests/e2e/test_ingress_certificate": "kubernetes",
    "tests/e2e/test_recordings": "kubernetes",
    "tests/soak/": "kubernetes",
    "tests/e2e/": "docker",
    "tests/integration/agent/": "docker",
    "tests/integration/compose/": "docker",
    "tests/integration/testbed/": "docker",
}
"""Beginning of a path to what its tests share; the first that fits counts."""


def group_of(node_id: str) -> str:
    """Return the name of what one worker runs as a whole."""
    file = node_id.partition("::")[0]
    return next((shared for start, shared in SHARED.items() if file.startswith(start)), file)


class SharedParts(LoadScopeScheduling):  # type: ignore[misc]
    """Hands whole groups to workers, the largest first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
