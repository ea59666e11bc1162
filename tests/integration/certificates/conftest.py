"""A Pebble of its own for each test, ended with it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.testbed import pebble


@pytest.fixture
def start_pebble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., pebble.Authority]]:
    """Start authorities: `start_pebble(environment={...}, externalAccountBindingRequired=True)`."""
    running: list[pebble.Authority] = []

    def start(**options: Any) -> pebble.Authority:
        running.append(pebble.start(tmp_path_factory.mktemp("pebble"), **options))
        return running[-1]

    yield start
    for authority in running:
        authority.stop()


@pytest.fixture
def authority(start_pebble: Callable[..., pebble.Authority]) -> pebble.Authority:
    """A calm authority."""
    return start_pebble()
