"""The operator's dashboard on a real API server: the fleet, what it serves and what it is asked, as a page gets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from cluster.kubectl import Kubectl
from cluster.operating import ingress
from cluster.pod_network import Pod
from cluster.replicas import Fleet, Replica, shop
from portway_proxy.dashboard.feed import Event, Hello, Problems, Proxies, Role, Traffic

KINDS = {kind.__name__.lower(): kind for kind in (Hello, Problems, Proxies, Traffic)}


async def events(operator: Replica) -> AsyncIterator[Event]:
    """Yield what the stream of the dashboard says."""
    kind: type[Event] | None = None
    async with operator.client.get(f"{operator.url}/dashboard/stream") as response:
        assert response.status == 200
        async for line in response.content:
            name, _, value = line.rstrip(b"\n").partition(b": ")
            if name == b"event":
                kind = KINDS.get(value.decode())
            elif name == b"data" and kind is not None:
                yield msgspec.json.decode(value, type=kind)


async def test_the_operators_dashboard_follows_the_cluster_and_adds_up_its_proxies(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await shop(kubectl, namespace, pod)
    operator = await ships.operator()
    proxies = [await ships.proxy(operator, name=name) for name in ("proxy-0", "proxy-1")]
    for proxy in proxies:
        await proxy.answers(f"{namespace}.example", "a")
    await kubectl.apply(ingress(namespace, "lost", "lost.example", tls="no-such-secret"))
    asked: dict[str, bool] = {}
    problems: list[str] = []
    host = ""
    async with asyncio.timeout(60):
        async for said in events(operator):
            match said:
                case Hello():
                    assert said.role is Role.OPERATOR
                case Proxies():
                    assert {row.state for row in said.proxies} == {"current"}
                    asked = {row.name: row.requests > 0 for row in said.proxies}
                case Problems():
                    problems = [f"{one.origin.namespace}/{one.origin.name} {one.code}" for one in said.problems]
                case Traffic():
                    host = host or next((name for name, figure in said.hosts.items() if figure.requests), "")
                    for proxy in proxies:
                        assert await proxy.ask(f"{namespace}.example") == "a"
            if host and asked == {"proxy-0": True, "proxy-1": True} and f"{namespace}/lost secret_missing" in problems:
                break
    assert host == f"{namespace}.example"
    status, page = await operator.get("/dashboard/")
    assert status == 200
    assert "<title>" in page
