"""The ports of Portway's own Service on a real API server: added and removed with the listeners, and nothing else."""

from __future__ import annotations

import asyncio

from cluster.kubectl import Kubectl, Raw
from cluster.operating import service
from cluster.pod_network import Pod
from cluster.replicas import Fleet, RunningProxy, until
from cluster.rights import NAMESPACE

NAME = "portway-proxy"
FLAGS = ("--expose-service", f"{NAMESPACE}/{NAME}", "--reserved-ports", "8080,8443")


def own_service() -> Raw:
    ports = [
        {"name": "http", "port": 80, "targetPort": 8080},
        {"name": "by-hand", "port": 2525, "targetPort": 9},
    ]
    spec = {"type": "NodePort", "selector": {"app": NAME}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec}


def annotated(namespace: str, ports: str) -> Raw:
    raw = service(namespace, "mail")
    raw["metadata"]["annotations"] = {"portway.dev/tcp-ports": ports}
    return raw


async def ports_of(kubectl: Kubectl) -> dict[str, Raw]:
    found = await kubectl.get("Service", NAME, NAMESPACE)
    return {port["name"]: port for port in found["spec"]["ports"]}


async def holds(kubectl: Kubectl, *names: str) -> None:
    async def so() -> bool:
        return set(await ports_of(kubectl)) == set(names)

    await until(so, 20, f"the Service has {', '.join(names)}")


async def answers(proxy: RunningProxy, port: int) -> None:
    async def so() -> bool:
        return await ask(port) == b"a"

    await until(so, 20, f"the pod answers on port {port}", proxy.command)


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        return await reader.readexactly(1) if b"200 OK" in head else b""
    except asyncio.IncompleteReadError:
        return b""
    finally:
        writer.close()


async def test_the_own_service_has_the_ports_that_proxies_listen_on(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await kubectl.apply(own_service(), annotated(namespace, "25:80, 15433:80, 2525:80, 80:80"))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    operator = await ships.operator(*FLAGS)
    await operator.ready()
    await until(operator.leads, 10, "the only operator leads")
    await asyncio.sleep(1)
    assert set(await ports_of(kubectl)) == {"http", "by-hand"}, "no proxy listens yet"

    proxy = await ships.proxy(operator)
    await holds(kubectl, "http", "by-hand", "l4-tcp-25", "l4-tcp-15433")
    before = await ports_of(kubectl)
    assert before["l4-tcp-25"]["targetPort"] == 20025, "who is not root cannot listen on 25"
    assert before["by-hand"]["targetPort"] == 9
    await answers(proxy, 20025)
    await answers(proxy, 15433)

    async def told() -> bool:
        said = " ".join(str(event.get("message")) for event in await kubectl.list("Event", namespace))
        return "2525 (by-hand)" in said and "80 (http)" in said

    await until(told, 20, "the owner hears which ports are taken")

    await kubectl.apply(annotated(namespace, "25:80"))
    await holds(kubectl, "http", "by-hand", "l4-tcp-25")
    assert await ports_of(kubectl) == {name: before[name] for name in ("http", "by-hand", "l4-tcp-25")}

    await kubectl.delete("Service", "mail", namespace)
    await holds(kubectl, "http", "by-hand")
    await kubectl.delete("Service", NAME, NAMESPACE)


async def test_what_others_do_to_our_ports_is_mended(ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod) -> None:
    await kubectl.apply(own_service(), annotated(namespace, "15434:80"))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    operator = await ships.operator(*FLAGS)
    await ships.proxy(operator)
    await holds(kubectl, "http", "by-hand", "l4-tcp-15434")
    await kubectl.patch("Service", NAME, NAMESPACE, {"spec": {"ports": own_service()["spec"]["ports"]}})
    await holds(kubectl, "http", "by-hand", "l4-tcp-15434")
    await kubectl.delete("Service", "mail", namespace)
    await kubectl.delete("Service", NAME, NAMESPACE)


async def test_the_ports_of_an_ingress_nginx_config_map_are_opened_exposed_and_followed(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    def mapped(*ports: int) -> Raw:
        data = {str(port): f"{namespace}/web:80" for port in ports}
        meta = {"name": "portway-tcp", "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}

    await kubectl.apply(own_service(), service(namespace), mapped(15435))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    operator = await ships.operator(*FLAGS, "--tcp-services-configmap", f"{NAMESPACE}/portway-tcp")
    proxy = await ships.proxy(operator)
    await holds(kubectl, "http", "by-hand", "l4-tcp-15435")
    await answers(proxy, 15435)
    await kubectl.apply(mapped(15436))
    await holds(kubectl, "http", "by-hand", "l4-tcp-15436")
    await answers(proxy, 15436)
    await kubectl.delete("ConfigMap", "portway-tcp", NAMESPACE)
    await holds(kubectl, "http", "by-hand")
    await kubectl.delete("Service", NAME, NAMESPACE)
