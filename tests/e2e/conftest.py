"""What several stories share: a product with a user who signed in and a project that runs."""

import time
from collections.abc import Iterator

import pytest
from tests.support import kubernetes_objects as objects
from tests.support.commands import answer, succeed
from tests.support.gateway import DnsThread
from tests.support.kubectl import Going
from tests.support.kubernetes_stack import Stack, User
from tests.support.meddling_api import Call, MeddlingApi
from tests.support.older_stack import OlderStack
from tests.support.product import PASSWORD, Product, wait_for
from tests.testbed import images, kubectl
from tests.testbed.kubernetes.cluster import Cluster

SHOP = f"""\
services:
  web:
    image: {images.BASE}
    command: ["sh", "-c", "echo the shop is open; cat /etc/shop/notice.txt; exec sleep 1000"]
    stop_signal: KILL
    environment:
      COLOUR: ${{COLOUR}}
    volumes: ["./notice.txt:/etc/shop/notice.txt:ro"]
"""


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, docker_engine: str) -> Iterator[Product]:
    """A product with ada signed in, this machine called `here`, and a project that runs."""
    folder = tmp_path_factory.mktemp("cli")
    with Product(folder) as running:
        running.set_up("ada")
        (folder / "password.txt").write_text(PASSWORD)
        succeed(running, f"towline login {running.url} --user ada --password-file password.txt")
        (name,) = wait_for(
            lambda: answer(running, "towline clusters --state healthy"), "a healthy cluster", 60, running
        )
        succeed(running, f"towline clusters rename {name['name']} here")
        files = folder / "shop"
        files.mkdir()
        (files / "compose.yaml").write_text(SHOP)
        (files / "notice.txt").write_text("mind the step\n")
        (files / ".env").write_text("COLOUR=red\n")
        succeed(running, "towline deploy here/w4cli --folder shop --settle 1 -m first")
        yield running
        running.run("towline remove here/w4cli --volumes --yes")


# -- Kubernetes: one control plane, one agent, one cluster for all of these tests -----------------


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A control plane and an agent in processes of their own, joined to the test bed's cluster."""
    with Stack(tmp_path_factory.mktemp("kubernetes"), Cluster(), kubectl.ensure()) as running:
        yield running


@pytest.fixture(scope="session")
def ada(stack: Stack) -> User:
    """May do everything in Towline and in the cluster."""
    return stack.user("k8ada", "admin", bound_to="cluster-admin")


@pytest.fixture(scope="session")
def dora(stack: Stack) -> User:
    """A deployer, whom the cluster itself would let do everything."""
    return stack.user("k8dora", "deployer", bound_to="cluster-admin")


@pytest.fixture(scope="session")
def seeded(stack: Stack) -> str:
    """The namespace of objects that tests only read. Stays for the next run."""
    return objects.seed(stack.direct())


@pytest.fixture(scope="session")
def meddling_server(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeddlingApi]:
    """A server before the real one that does as a script says, and an agent that takes it for its cluster `meddled`."""
    authority = stack.cluster.home / "authority.crt"
    with MeddlingApi(tmp_path_factory.mktemp("meddling"), stack.cluster.api_port, authority) as server:
        stack.join("meddled", "meddled")
        stack.agent_config("meddled", server.port, server.authority)
        stack.start_agent("meddled", "meddled")
        yield server
        stack.stop("meddled")


@pytest.fixture
def meddling(meddling_server: MeddlingApi) -> Iterator[MeddlingApi]:
    """The same for one test, which chooses the script."""
    yield meddling_server
    meddling_server.script = Call.pass_on


def swallow_answers_of_shells(call: Call) -> None:
    """A shell opens, and nothing comes back any more, pongs included; everything else is real."""
    call.pass_on(answers="silence" not in call.line)


@pytest.fixture(scope="session")
def unanswered(meddling_server: MeddlingApi, seeded: str, ada: User) -> Iterator[tuple[float, Going]]:
    """A shell whose pings nobody answers. Whoever needs it late asks for it early: kubectl waits for a minute."""
    meddling_server.script = swallow_answers_of_shells
    words = ("-n", seeded, "exec", "-i", "talker", "-c", "main", "--", "sh", "-c", "echo silence; cat")
    with ada.client(cluster="meddled").going(*words) as shell:
        wait_for(lambda: any("silence" in line for line in meddling_server.calls), "the shell to be asked for", 30)
        meddling_server.script = Call.pass_on
        yield time.monotonic(), shell


# -- older agents: one control plane, with our own agent in their place -----------------------------


@pytest.fixture(scope="session")
def older_dns() -> Iterator[DnsThread]:
    """The name server that this control plane asks."""
    with DnsThread() as server:
        yield server


@pytest.fixture(scope="session")
def older(tmp_path_factory: pytest.TempPathFactory, older_dns: DnsThread) -> Iterator[OlderStack]:
    """See `tests.support.older_stack`."""
    settings = {"DNS_RESOLVERS": older_dns.address, "GATEWAY_SOURCE_GRACE": "2"}
    with OlderStack(tmp_path_factory.mktemp("older"), Cluster(), kubectl.ensure(), settings) as running:
        yield running


@pytest.fixture(scope="session")
def olga(older: OlderStack) -> User:
    """May do everything in that control plane, and in the cluster."""
    return older.user("k8olga", "admin", bound_to="cluster-admin")


@pytest.fixture(scope="session")
def seeded_older(older: OlderStack) -> str:
    """The namespace of objects that tests only read."""
    return objects.seed(older.direct())
