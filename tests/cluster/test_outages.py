"""`portway operator` and `portway proxy` while the API server, each other, or they themselves are gone."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from cluster.kubectl import Kubectl
from cluster.operating import ingress
from cluster.pod_network import Pod, PodNetwork
from cluster.replicas import Fleet, Load, Replica, RunningProxy, shop, until
from cluster.wire import Wire
from portway_proxy import codec
from portway_proxy.snapshot import Snapshot
from wire.command import Command

HERE = ("--publish-status-address", "192.0.2.1")


@pytest_asyncio.fixture
async def other(pod_network: PodNetwork) -> AsyncIterator[Pod]:
    """A second server on a pod's address."""
    pod = Pod(pod_network, 1, "b")
    await pod.start()
    yield pod
    await pod.stop()


async def kill(command: Command) -> None:
    """Kill the command with all that it started, as the kernel does when memory is short."""
    os.killpg(command.process.pid, signal.SIGKILL)
    await command.ended()


async def start(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, server: str = ""
) -> tuple[Replica, RunningProxy]:
    """Start an operator, and a proxy that serves the shop."""
    await shop(kubectl, namespace, pod)
    operator = await ships.operator(*HERE, server=server)
    proxy = await ships.proxy(operator, name="proxy-0")
    await proxy.answers(f"{namespace}.example", "a")
    return operator, proxy


async def successor(ships: Fleet, operator: Replica, server: str = "") -> Replica:
    """Start an operator where the proxies knew the other."""
    return await ships.operator(*HERE, "--stream-port", str(operator.stream_port), server=server)


async def test_an_api_server_that_is_away_for_a_minute_costs_no_request(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, other: Pod
) -> None:
    operator, proxy = await start(ships, kubectl, namespace, pod)
    async with Load(proxy, f"{namespace}.example", "a", "b").running() as load:
        ships.plane.kill_apiserver()
        await asyncio.sleep(60)
        assert load.answered > 1000
        assert (await operator.get("/readyz"))[0] == (await operator.get("/livez"))[0] == 200
        assert (await proxy.page("/readyz"))[0] == 200
        await asyncio.to_thread(ships.plane.start_apiserver)
        await kubectl.pod(namespace, "b", other.address, app="web")
        await proxy.answers(f"{namespace}.example", "b", seconds=40)
        await until(operator.leads, 40, "it leads again", operator.command)
        await load.more()
    assert await operator.metric("kopf_restarts_total") == 0


async def test_an_endpoint_that_dies_while_the_api_server_is_away_costs_no_request(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, other: Pod
) -> None:
    """Nobody can tell of it: it is left alone because requests to it fail, and those are repeated elsewhere."""
    _, proxy = await start(ships, kubectl, namespace, pod)
    await kubectl.pod(namespace, "b", other.address, app="web")
    await proxy.answers(f"{namespace}.example", "b")
    async with Load(proxy, f"{namespace}.example", "a", "b").running() as load:
        ships.plane.kill_apiserver()
        try:
            await load.more()
            await other.stop()

            async def ejected() -> bool:
                text = (await proxy.page("/metrics"))[1]
                return re.search(r"^portway_ejections_total\{.*\} [1-9]", text, re.MULTILINE) is not None

            await until(ejected, 20, "the endpoint is left alone", proxy.command)
            await load.more(200)
        finally:
            await asyncio.to_thread(ships.plane.start_apiserver)
        await kubectl.delete("Pod", "b", namespace)
        await load.more()


async def test_what_was_deleted_before_a_compaction_is_no_ghost(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, other: Pod, wire: Wire
) -> None:
    operator, proxy = await start(ships, kubectl, namespace, pod, f"https://127.0.0.1:{wire.port}")
    doomed = f"doomed.{namespace}.example"
    async with Load(proxy, f"{namespace}.example", "a", "b").running() as load:
        # Seen by the watch, so that the watch asks to resume from its version.
        await kubectl.apply(ingress(namespace, "doomed", host=doomed))
        await proxy.answers(doomed, "a")
        await wire.cut()
        await kubectl.delete("Ingress", "doomed", namespace)
        await kubectl.pod(namespace, "b", other.address, app="web")
        ships.plane.kill_apiserver()
        ships.plane.compact()
        await asyncio.to_thread(ships.plane.start_apiserver)
        await proxy.answers(doomed, "a")
        await wire.mend()
        await proxy.answers(doomed, "404", seconds=40)
        await proxy.answers(f"{namespace}.example", "b")
        assert await operator.metric('api_errors_total{code="410"}') >= 1
        assert await operator.metric("kopf_restarts_total") == 0
        await kubectl.apply(ingress(namespace, "doomed", host=doomed))
        await proxy.answers(doomed, "a")
        await load.more()


async def test_an_operator_that_is_killed_is_replaced_by_one_that_sends_nothing_anew(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    operator, proxy = await start(ships, kubectl, namespace, pod)
    async with Load(proxy, f"{namespace}.example", "a").running() as load:
        await kill(operator.command)
        await load.more()
        assert (await proxy.page("/readyz"))[0] == 200
        replacement = await successor(ships, operator)

        async def followed() -> bool:
            return await replacement.metric("proxies") == 1 and await replacement.metric("generation") >= 1

        await until(followed, 40, "the proxy follows the new operator", replacement.command)
        await load.more()
        assert await replacement.metric("snapshots_sent_total") == 0, "the content is equal"
        await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
        await proxy.answers(f"late.{namespace}.example", "a")
        await load.more()


async def test_a_proxy_that_is_killed_serves_again_though_no_operator_is_there(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    operator, proxy = await start(ships, kubectl, namespace, pod)
    await until_kept(ships)
    await kill(operator.command)
    await kill(proxy.command)
    proxy = await ships.proxy(operator, name="proxy-0")
    async with Load(proxy, f"{namespace}.example", "a").running() as load:
        await load.more()
        assert (await proxy.page("/readyz"))[0] == 200
        assert "\nportway_config_stale 1\n" in (await proxy.page("/metrics"))[1]
        await successor(ships, operator)
        await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
        await proxy.answers(f"late.{namespace}.example", "a", seconds=40)
        assert "\nportway_config_stale 0\n" in (await proxy.page("/metrics"))[1]


async def until_kept(ships: Fleet) -> None:
    """Wait until the proxy has on its disk what it serves, and not just what it served first: nothing, perhaps."""
    file = ships.directory / "proxy-0" / "snapshot"

    async def kept() -> bool:
        snapshot = codec.decode(file.read_bytes())[0] if file.exists() else Snapshot()
        return bool(snapshot.hosts) and any(upstream.endpoints for upstream in snapshot.upstreams)

    await until(kept, 20, "the proxy keeps what it serves")


async def test_started_without_an_api_server_nobody_is_ready_but_who_knows_what_was_served(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, wire: Wire
) -> None:
    operator, known = await start(ships, kubectl, namespace, pod)
    await until_kept(ships)
    await kill(operator.command)
    await kill(known.command)
    await wire.cut()

    operator = await successor(ships, operator, f"https://127.0.0.1:{wire.port}")
    known = await ships.proxy(operator, name="proxy-0")
    await known.answers(f"{namespace}.example", "a")
    fresh = await ships.proxy(operator, name="proxy-1")
    for _ in range(5):
        code, why = await operator.get("/readyz")
        assert (code, why.splitlines()[0]) == (503, "the cluster is not known yet")
        assert (await fresh.page("/readyz"))[0] == 503
        assert (await known.page("/readyz"))[0] == 200
        with pytest.raises(TimeoutError):
            # It is open, so that a client which comes too early waits for the first snapshot, and gets no wrong answer.
            await asyncio.wait_for(fresh.ask(f"{namespace}.example"), 0.5)
    assert (await operator.get("/livez"))[0] == 200

    await wire.mend()
    await operator.ready()
    await fresh.answers(f"{namespace}.example", "a", seconds=40)
    assert (await fresh.page("/readyz"))[0] == 200
    await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
    for proxy in (known, fresh):
        await proxy.answers(f"late.{namespace}.example", "a", seconds=40)


async def test_two_operators_that_lead_in_turn_never_fight_over_a_status(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    """With other addresses than one another, as while a rollout changes them."""
    await shop(kubectl, namespace, pod)
    first = await ships.operator("--publish-status-address", "192.0.2.1")
    await first.ready()
    await until(first.leads, 10, "the first leads")
    second = await ships.operator("--publish-status-address", "192.0.2.2")
    await second.ready()
    await ships.proxy(first, second)

    async def address() -> str:
        balancer = (await kubectl.get("Ingress", "web", namespace))["status"].get("loadBalancer", {})
        return ",".join(point["ip"] for point in balancer.get("ingress", ()))

    async def says(wanted: str) -> bool:
        return await address() == wanted

    await until(lambda: says("192.0.2.1"), 20, "the leader's address is written")
    version = (await kubectl.get("Ingress", "web", namespace))["metadata"]["resourceVersion"]
    await asyncio.sleep(5)
    found = await kubectl.get("Ingress", "web", namespace)
    assert (await address(), found["metadata"]["resourceVersion"]) == ("192.0.2.1", version)

    await kill(first.command)
    await until(lambda: says("192.0.2.2"), 40, "the new leader's address is written")
    with pytest.raises(aiohttp.ClientConnectionError):
        await first.get("/livez")
