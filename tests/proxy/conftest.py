"""What tests of the proxy's modules share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from portway_proxy.clock import Clock
from portway_proxy.l4.splicer import Splicer


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run layer 4 on both loops, the rest on asyncio's own."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if "splicer" in getattr(item, "fixturenames", ()):
        factories["uvloop"] = uvloop.new_event_loop
    return factories


@pytest.fixture
async def splicer() -> AsyncIterator[Splicer]:
    """Lend a splicer; at the end nothing of it may be in use."""
    loop = asyncio.get_running_loop()
    splicer = Splicer(loop, Clock(loop))
    yield splicer
    watched = len(splicer)
    splicer.close()
    assert watched == 0
    assert splicer.pipes.open == 0
