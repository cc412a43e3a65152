"""A shop's life in a cluster, followed by processes: `portway operator` with the manifest's rights, two proxies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from cryptography import x509

from certs import issue
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service, tls_secret
from cluster.pod_network import Pod, PodNetwork
from cluster.replicas import Fleet, Load, RunningProxy, shop, until
from cluster.rights import NAMESPACE

HERE = ("--publish-status-address", "192.0.2.1")

CHANGES, SERVICES, SECONDS = 5000, 50, 10
"""The storm (hostile-world, row 26)."""


@pytest_asyncio.fixture
async def pods(pod_network: PodNetwork) -> AsyncIterator[list[Pod]]:
    """Servers on the addresses of pods, and one on another port of the first."""
    pods = [Pod(pod_network, 1, "a"), Pod(pod_network, 2, "b"), Pod(pod_network, 1, "beside", port=9090)]
    for pod in pods:
        await pod.start()
    yield pods
    for pod in pods:
        await pod.stop()


class Proxies:
    """Two proxies of which each must answer the same."""

    def __init__(self, proxies: list[RunningProxy]) -> None:
        self.proxies = proxies

    async def answer(self, host: str, *wanted: str, path: str = "/") -> None:
        """Wait until each answers with all of these bodies (or statuses) in turn, and with nothing else."""
        for proxy in self.proxies:

            async def so(proxy: RunningProxy = proxy) -> bool:
                return {await proxy.ask(host, path) for _ in range(4 * len(wanted))} == set(wanted)

            await until(so, 20, f"{host}{path} answers {wanted}", proxy.command)

    async def show(self, host: str, serial: int) -> None:
        """Wait until each shows the certificate with this serial number."""
        for proxy in self.proxies:

            async def so(proxy: RunningProxy = proxy) -> bool:
                return (await proxy.shake_hands(host))[0] == serial

            await until(so, 20, f"{host} shows {serial}", proxy.command)

    async def shown(self, host: str) -> list[int]:
        """Return the serial number of the certificate that each shows now."""
        return [(await proxy.shake_hands(host))[0] for proxy in self.proxies]


@pytest_asyncio.fixture
async def proxies(ships: Fleet, kubectl: Kubectl, namespace: str, pods: list[Pod]) -> Proxies:
    """What serves pod `a` behind a Service and an Ingress."""
    await shop(kubectl, namespace, pods[0])
    operator = await ships.operator(*HERE)
    proxies = Proxies([await ships.proxy(operator) for _ in range(2)])
    await proxies.answer(f"{namespace}.example", "a")
    return proxies


async def test_an_ingress_changes_moves_and_goes(proxies: Proxies, kubectl: Kubectl, namespace: str) -> None:
    host, moved = f"{namespace}.example", f"moved.{namespace}.example"
    await kubectl.apply(ingress(namespace, path="/only"))
    await proxies.answer(host, "404")
    await proxies.answer(host, "a", path="/only")
    await kubectl.apply(ingress(namespace, host=moved))
    await proxies.answer(host, "404", path="/only")
    await proxies.answer(moved, "a")
    await kubectl.delete("Ingress", "web", namespace)
    await proxies.answer(moved, "404")


async def test_an_ingress_is_served_while_its_class_is_ours(proxies: Proxies, kubectl: Kubectl, namespace: str) -> None:
    host, name = f"{namespace}.example", f"class-{namespace}"
    await kubectl.patch("Ingress", "web", namespace, {"spec": {"ingressClassName": name}})
    await proxies.answer(host, "404")
    ours: Raw = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name}}
    await kubectl.apply(ours | {"spec": {"controller": "portway.dev/ingress-controller"}})
    await proxies.answer(host, "a")
    await kubectl.delete("IngressClass", name)
    await kubectl.apply(ours | {"spec": {"controller": "example.com/another"}})
    await proxies.answer(host, "404")
    await kubectl.patch("Ingress", "web", namespace, {"spec": {"ingressClassName": "portway"}})
    await proxies.answer(host, "a")
    await kubectl.delete("IngressClass", name)


async def test_traffic_follows_the_service_and_its_pods(
    proxies: Proxies, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    host = f"{namespace}.example"
    await kubectl.pod(namespace, "b", pods[1].address, app="web")
    await proxies.answer(host, "a", "b")
    await kubectl.pod(namespace, "a", pods[0].address, app="web", ready=False)
    await proxies.answer(host, "b")
    await kubectl.pod(namespace, "a", pods[0].address, app="web")
    await kubectl.delete("Pod", "b", namespace)
    await proxies.answer(host, "a")
    await kubectl.apply(service(namespace, target=9090))
    await proxies.answer(host, "beside")
    await kubectl.patch("Service", "web", namespace, {"spec": {"selector": {"app": "nothing"}}})
    await proxies.answer(host, "503")
    await kubectl.delete("Service", "web", namespace)
    await proxies.answer(host, "503")
    await kubectl.apply(service(namespace))
    await proxies.answer(host, "a")


async def test_a_certificate_appears_rotates_and_goes(proxies: Proxies, kubectl: Kubectl, namespace: str) -> None:
    host = f"{namespace}.example"
    default = await proxies.shown("nobody.example")
    await kubectl.apply(ingress(namespace, tls="cert"))
    await proxies.answer(host, "308")
    for _ in range(2):
        chain, key = issue(host)
        await kubectl.apply(tls_secret(namespace, chain, key))
        await proxies.show(host, x509.load_pem_x509_certificate(chain).serial_number)
    await kubectl.delete("Secret", "cert", namespace)

    async def gone() -> bool:
        return await proxies.shown(host) == default

    await until(gone, 20, "the default certificates are shown")


async def test_the_operators_own_config_map_counts_while_it_is_there(
    ships: Fleet, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    host = f"{namespace}.example"
    await shop(kubectl, namespace, pods[0])
    await kubectl.apply(ingress(namespace, tls="cert"))
    proxies = Proxies([await ships.proxy(await ships.operator(*HERE, "--configmap", f"{NAMESPACE}/portway"))])
    await proxies.answer(host, "308")
    meta = {"name": "portway", "namespace": NAMESPACE}
    await kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"ssl-redirect": "false"}})
    await proxies.answer(host, "a")
    await kubectl.delete("ConfigMap", "portway", NAMESPACE)
    await proxies.answer(host, "308")


async def test_a_storm_of_endpoint_changes_ends_in_the_last_of_each_and_holds_nothing_up(
    ships: Fleet, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    """5,000 changes, 500 a second if the API server takes them so fast."""
    names = [f"web-{number}" for number in range(SERVICES)]

    def slice_of(name: str, pod: Pod) -> Raw:
        return {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [pod.address]}],
            "ports": [{"name": "http", "port": 8080}],
        }

    for name in names:
        made, route = service(namespace, name), ingress(namespace, name, host=f"{name}.{namespace}.example")
        del made["spec"]["selector"]
        route["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = name
        await kubectl.apply(made, route, slice_of(name, pods[0]))
    operator = await ships.operator(*HERE)
    proxy = await ships.proxy(operator)
    for name in names:
        await proxy.answers(f"{name}.{namespace}.example", "a")
    loop = asyncio.get_running_loop()
    pushed, began = await operator.metric("deltas_total"), loop.time()

    async def storm(number: int) -> None:
        for turn in range(CHANGES // SERVICES):
            await asyncio.sleep(began + turn * SECONDS * SERVICES / CHANGES - loop.time())
            await kubectl.replace(slice_of(names[number], pods[turn % 2]))

    async with Load(proxy, f"{names[0]}.{namespace}.example", "a", "b").running() as load:
        await asyncio.gather(*map(storm, range(SERVICES)))
        # The last write of each names the second pod.
        converged = loop.time() + 5
        for name in names:
            await proxy.answers(f"{name}.{namespace}.example", "b", seconds=converged - loop.time())
        took = loop.time() - began
        pushed = await operator.metric("deltas_total") - pushed
        lag, busy = await operator.metric("loop_lag_seconds"), await operator.metric("loop_busy_seconds")
        await load.more()
    print(f"{CHANGES} changes in {took:.1f} s: {pushed:.0f} pushes, lag {lag:.3f} s, busy {busy:.3f} s")
    assert await operator.metric('events_total{kind="EndpointSlice"}') >= CHANGES * 0.9
    assert pushed <= 10 * took
    # How late the loop is beyond that tells how busy the machine is, and not what the operator does to its loop.
    assert busy < 0.1
    assert await operator.metric("kopf_restarts_total") == 0
    assert await operator.metric("rejections_total") == 0
    assert await operator.metric("resyncs_total") == 0
