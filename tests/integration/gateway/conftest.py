"""Tests of the gateway run on uvloop, as the server does."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

ON_ASYNCIO = frozenset({"test_gateway_cut_link.py"})
"""Where connections are reset by the dozen in one process, both ends of each: uvloop's own close waits for them."""


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    if item.path.name in ON_ASYNCIO:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}
