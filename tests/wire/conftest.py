"""What wire tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest

from network import Network, NoNetwork
from wire.parts import Web, serve_web
from wire.site import Loop, Net
from wire.streams import Cluster, Operator, cluster, operator


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run layer 7 on the loop that workers use; the supervisor's is asyncio's own."""
    names = getattr(item, "fixturenames", ())
    return {"uvloop": Loop} if "net" in names else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def net() -> AsyncIterator[Net]:
    async with Net() as net:
        yield net


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    """An endpoint of HTTP."""
    async with serve_web() as endpoint:
        yield endpoint


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Cluster]:
    """What several operators have in common."""
    async with cluster(tmp_path) as shared:
        yield shared


@pytest.fixture
async def op(shared: Cluster) -> AsyncIterator[Operator]:
    """An operator that has published nothing yet."""
    async with operator(shared) as op:
        yield op


@pytest.fixture(scope="session")
def _namespace() -> Iterator[Network]:
    try:
        network = Network()
    except NoNetwork as reason:
        pytest.skip(str(reason))
    try:
        with network.failing("numgen random mod 100 < 0 drop", "tcp dport 1 reject with tcp reset"), network.slow(1000):
            pass
    except NoNetwork as reason:
        network.close()
        pytest.skip(f"faults of networks need nftables and iproute2: {reason}")
    yield network
    network.close()


@pytest.fixture
def network(_namespace: Network) -> Network:
    """A network that can fail; what fails is whole again when its `with` ends."""
    return _namespace
