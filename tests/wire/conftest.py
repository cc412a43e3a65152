"""What wire tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from wire.site import Loop, Net


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run layer 7 on the loop that workers use; the supervisor's is asyncio's own."""
    names = getattr(item, "fixturenames", ())
    return {"uvloop": Loop} if "net" in names else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with Net() as net:
        yield net
