"""ExternalName services follow their names, and outlive their name server."""

from __future__ import annotations

import asyncio
import socket

import pytest

from eventually import eventually
from portway_proxy import resolver
from portway_proxy.errors import AddressRefused, NameUnresolved
from portway_proxy.live import LiveUpstream
from portway_proxy.resolver import Resolver
from portway_proxy.snapshot import Endpoint, Upstream
from portway_proxy.tasks import Tasks

API = Upstream("shop/api:443", external_name="api.example", external_port=443)


class NameServer:
    """Answers what the test says, in the loop's place: addresses, an error, or nothing for ever."""

    def __init__(self) -> None:
        self.answer: list[str] | OSError | None = []
        self.asked = 0

    async def getaddrinfo(self, host: str, port: int, *, type: socket.SocketKind) -> list[object]:  # noqa: A002 - as asyncio names it
        assert (host, port, type) == ("api.example", 443, socket.SOCK_STREAM)
        self.asked += 1
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, OSError):
            raise self.answer
        return [(socket.AF_INET, type, 6, "", (address, port)) for address in self.answer or ()]

    async def again(self) -> None:
        """Wait until it was asked anew, and its answer taken."""
        before = self.asked
        await eventually(lambda: self.asked >= before + 2)


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> NameServer:
    names = NameServer()
    monkeypatch.setattr(resolver, "_REFRESH", 0.01)
    monkeypatch.setattr(resolver, "_PATIENCE", 0.05)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo)
    return names


def at(*addresses: str) -> list[Endpoint]:
    return [Endpoint(address, 443) for address in addresses]


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), id="SERVFAIL"),
        pytest.param(socket.gaierror(socket.EAI_NONAME, "Name or service not known"), id="NXDOMAIN"),
        pytest.param(None, id="black hole"),
    ],
)
async def test_a_name_server_that_fails_costs_no_address(names: NameServer, trouble: OSError | None) -> None:
    live, tasks = LiveUpstream(API), Tasks()
    names.answer = ["203.0.113.1", "203.0.113.2"]
    Resolver(tasks).follow([live])
    await eventually(lambda: {pool.endpoint for pool in live.pools} == set(at("203.0.113.1", "203.0.113.2")))
    kept = live.pools
    names.answer = trouble
    await names.again()
    assert live.pools == kept
    names.answer = ["203.0.113.2", "203.0.113.3"]
    await eventually(lambda: {pool.endpoint for pool in live.pools} == set(at("203.0.113.2", "203.0.113.3")))
    await tasks.close()


async def test_a_name_that_never_resolved_says_so_and_is_tried_again(names: NameServer) -> None:
    live, tasks = LiveUpstream(API), Tasks()
    names.answer = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    Resolver(tasks).follow([live])
    await names.again()
    with pytest.raises(NameUnresolved):
        live.reach(b"")
    names.answer = ["203.0.113.1"]
    await eventually(lambda: live.pools)
    assert live.reach(b"").endpoint == Endpoint("203.0.113.1", 443)
    await tasks.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:127.0.0.1", "0.0.0.0", "fd00:ec2::254"])
async def test_a_name_that_turns_to_a_forbidden_address_leads_nowhere(names: NameServer, address: str) -> None:
    live, tasks = LiveUpstream(API), Tasks()
    names.answer = ["203.0.113.1"]
    Resolver(tasks).follow([live])
    await eventually(lambda: live.pools)
    names.answer = [address]
    await eventually(lambda: not live.pools)
    with pytest.raises(AddressRefused):
        live.reach(b"")
    await tasks.close()


async def test_a_name_that_nobody_wants_any_more_is_not_asked_for(names: NameServer) -> None:
    live, tasks = LiveUpstream(API), Tasks()
    names.answer = ["203.0.113.1"]
    follower = Resolver(tasks)
    follower.follow([live])
    await eventually(lambda: live.pools)
    follower.follow([])
    before = names.asked
    await asyncio.sleep(0.1)
    assert names.asked == before
    await tasks.close()
