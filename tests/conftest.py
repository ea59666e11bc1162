"""Fixtures and rules for all tests: the real parts, what a missing one means, and no sockets in unit tests.

Fixtures of Towline's own (a control plane, an agent, a tunnel) live in tests/support, not here.
"""

import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import structlog

from tests.support import prepared
from tests.support.scheduling import SharedParts
from tests.support.sockets import close_sockets, open_sockets
from tests.testbed import catalogue, haproxy, nginx, postgres, registry, squid, sshd
from tests.testbed.engine import PrivateEngine
from tests.testbed.requirement import Missing, is_required
from tests.testbed.servers import Server

UNIT = Path(__file__).parent / "unit"
LEFT_OUT = pytest.StashKey[dict[str, Missing]]()
# Runs that go on at the same time take different networks, as well as chance allows; see `PRIVATE_NETWORK`.
PRIVATE_NETWORKS = 50
CACHED = "cache_logger_on_first_use"
DATABASES = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))


# -- parts: there, missing, or required ----------------------------------------------------------


@cache
def find(part: str) -> Any:
    """Have a part once per run. Returns: what it answers, or the `Missing` that says why not."""
    try:
        return catalogue.PARTS[part].ensure()
    except Missing as missing:
        return missing


def need(config: pytest.Config, part: str) -> Any:
    """The part, or the end of this test: a failure when the part is required, a skip otherwise."""
    found = find(part)
    if not isinstance(found, Missing):
        return found
    if is_required(part):
        pytest.fail(f"a required part is missing: {found}", pytrace=False)
    config.stash[LEFT_OUT][part] = found
    return pytest.skip(str(found))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT_OUT] = {}
    # A shell's background job ignores Ctrl-C, and so would every command that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Two shared cores make any deadline a coin toss; a failing example prints what runs it again.
    hypothesis.settings.register_profile("towline", deadline=None, print_blob=True)
    hypothesis.settings.load_profile("towline")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Run side by side only what shares nothing."""
    return SharedParts(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long proofs out unless a marker expression chooses tests."""
    if config.option.markexpr:
        return
    long = [item for item in items if item.get_closest_marker("soak")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Have what a test's markers ask for before its fixtures do, and close the sockets of unit tests behind them."""
    is_unit = item.path.is_relative_to(UNIT)
    if not is_unit:
        for part in catalogue.parts_of([mark.name for mark in item.iter_markers()]):
            need(item.config, part)
    yield
    if is_unit:
        close_sockets()


def pytest_runtest_teardown() -> None:
    open_sockets()


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a test did to the log of this process: `capture_logs` of a later test would see nothing.

    That holds for loggers of modules too, which would keep what was configured when they were first used.
    """
    before, configure = structlog.get_config(), structlog.configure
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(structlog, "configure", lambda **words: configure(**words | {CACHED: False}))
    yield
    configure(**before)
    root.setLevel(level)
    root.handlers[:] = [one for one in root.handlers if type(one) is not logging.StreamHandler]  # pytest's are more


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say plainly which real parts were left out, and what would bring them in."""
    if left_out := config.stash[LEFT_OUT]:
        terminalreporter.section("left out, because a real part is missing")
        for part, missing in sorted(left_out.items()):
            terminalreporter.line(f"{part}: {missing.reason} -> {missing.remedy}")


# -- Docker --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def docker_engine(pytestconfig: pytest.Config) -> str:
    """The version of a running Docker engine with Compose 2 and the standard images."""
    for part in ("compose", "images"):
        need(pytestconfig, part)
    return str(need(pytestconfig, "docker"))


@pytest.fixture(scope="session")
def base_images(pytestconfig: pytest.Config) -> str:
    """Local images to build Towline's own images on; `tests.testbed.bases` builds them."""
    need(pytestconfig, "docker")
    return str(need(pytestconfig, "bases"))


@pytest.fixture
def private_engine(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateEngine]:
    """A second engine that a test may kill and start again; give its `host` as `DOCKER_HOST`."""
    for part in ("root", "compose", "docker"):
        need(pytestconfig, part)
    engine = PrivateEngine(tmp_path_factory.mktemp("engine"), os.getpid() % PRIVATE_NETWORKS)
    engine.start()
    yield engine
    engine.remove()


# -- databases -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> postgres.Server:
    """The running PostgreSQL server; `tests.testbed.postgres` has what one can do with it."""
    server: postgres.Server = need(pytestconfig, "postgres")
    return server


@pytest.fixture
def postgres_url(postgres_server: postgres.Server) -> Iterator[str]:
    """A fresh, empty PostgreSQL database, gone after the test."""
    with postgres.passing_database(postgres_server) as name:
        yield postgres_server.url(name)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh, empty database: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'towline.sqlite'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def prepared_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with today's schema, to copy; see `tests.support.prepared`."""
    folder = tmp_path_factory.mktemp("prepared")
    prepared.migrate(f"sqlite:///{folder / prepared.FILE}", folder)
    return folder / prepared.FILE


@pytest.fixture(scope="session")
def prepared_postgres(postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a PostgreSQL database with today's schema, to copy."""
    with postgres.passing_database(postgres_server) as name:
        prepared.migrate(postgres_server.url(name), tmp_path_factory.mktemp("prepared"))
        yield name


@pytest.fixture
def prepared_postgres_url(postgres_server: postgres.Server, prepared_postgres: str) -> Iterator[str]:
    """A PostgreSQL database with today's schema and nothing else, gone after the test."""
    with postgres.passing_database(postgres_server, template=prepared_postgres) as name:
        yield postgres_server.url(name)


@pytest.fixture(params=DATABASES)
def prepared_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with today's schema and nothing else: the test runs once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return prepared.sqlite_copy(request.getfixturevalue("prepared_sqlite"), tmp_path)
    url: str = request.getfixturevalue("prepared_postgres_url")
    return url


# -- browser, proxies, registry ------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium_path(pytestconfig: pytest.Config) -> str:
    """Path of Debian's Chromium; start it with `tests.testbed.chromium.arguments()`."""
    return str(need(pytestconfig, "browser"))


def starter(
    part: str, start: Callable[..., Server], request: pytest.FixtureRequest, folders: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Hand out a function that starts servers, each in a folder of its own, and end them all afterwards."""
    need(request.config, part)
    running: list[Server] = []

    def start_one(*arguments: Any, **options: Any) -> Server:
        running.append(start(*arguments, folder=folders.mktemp(part), **options))
        return running[-1]

    yield start_one
    for server in running:
        server.stop()


@pytest.fixture
def start_nginx(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start nginx: `start_nginx(http_block, port=None, workers=1)`; see `tests.testbed.nginx`."""
    yield from starter("nginx", nginx.start, request, tmp_path_factory)


@pytest.fixture
def start_haproxy(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start HAProxy: `start_haproxy(sections, port=None)`; see `tests.testbed.haproxy`."""
    yield from starter("haproxy", haproxy.start, request, tmp_path_factory)


@pytest.fixture
def start_squid(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start Squid: `start_squid(accounts={"name": "password"}, extra="")`; see `tests.testbed.squid`."""
    yield from starter("squid", squid.start, request, tmp_path_factory)


@pytest.fixture
def start_sshd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start OpenSSH's server: `start_sshd()`; see `tests.testbed.sshd`."""
    yield from starter("sshd", sshd.start, request, tmp_path_factory)


@pytest.fixture
def start_registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Server]]:
    """Start a Docker registry: `start_registry(accounts={...})`; its `address` is what image names begin with."""
    yield from starter("registry", registry.start, request, tmp_path_factory)
