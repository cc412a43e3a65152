"""`portway operator` and `portway proxy` on a real API server: statuses, leadership, Events, rights."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import aiohttp
import pytest
import yaml

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service
from cluster.pod_network import Pod, PodNetwork
from cluster.replicas import Fleet, Replica, shop, until
from cluster.rights import NAMESPACE, USER
from portway_operator.api_objects import ApiObjects, Conflict
from wire.command import portway
from wire.parts import free_port

HERE = ("--publish-status-address", "192.0.2.1")
WEBHOOK = Path(__file__).parents[2] / "manifests" / "webhook.yaml"


async def status(kubectl: Kubectl, namespace: str, name: str = "web", kind: str = "Ingress") -> object:
    found = await kubectl.get(kind, name, namespace)
    return found["status"].get("loadBalancer", {}).get("ingress")


def says(
    kubectl: Kubectl, namespace: str, *points: Raw, name: str = "web", kind: str = "Ingress"
) -> Callable[[], Awaitable[bool]]:
    """Return whether a status says exactly this."""

    async def so() -> bool:
        return (await status(kubectl, namespace, name, kind) or []) == list(points)

    return so


async def test_an_ingress_is_served_and_its_status_written_once_a_proxy_serves_it(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await shop(kubectl, namespace, pod)
    operator = await ships.operator(*HERE)
    await operator.ready()
    await until(operator.leads, 10, "the only operator leads")
    await asyncio.sleep(2)
    assert await status(kubectl, namespace) is None, "no proxy serves it yet"
    proxy = await ships.proxy(operator)
    await proxy.answers(f"{namespace}.example", "a")
    await until(says(kubectl, namespace, {"ip": "192.0.2.1"}), 10, "the status is written")
    await kubectl.apply(ingress(namespace, "late", host="late.example"))
    await proxy.answers("late.example", "a")
    await until(says(kubectl, namespace, {"ip": "192.0.2.1"}, name="late"), 10, "the status is written")


async def leader_and_other(replicas: list[Replica]) -> tuple[Replica, Replica]:
    async def one() -> bool:
        return sum([await each.leads() for each in replicas]) == 1

    await until(one, 10, "one operator leads")
    leading = [await each.leads() for each in replicas]
    return replicas[leading.index(True)], replicas[leading.index(False)]


def status_writes(plane: ControlPlane) -> int:
    return sum(entry.resource == "ingresses" and entry.subresource == "status" for entry in plane.audit(USER))


async def test_leadership_moves_without_a_flapping_status(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, control_plane: ControlPlane
) -> None:
    await shop(kubectl, namespace, pod)
    replicas = [await ships.operator(*HERE) for _ in range(2)]
    for replica in replicas:
        await replica.ready()
    proxy = await ships.proxy(*replicas)
    await until(says(kubectl, namespace, {"ip": "192.0.2.1"}), 20, "the status is written")
    leader, other = await leader_and_other(replicas)
    before = status_writes(control_plane)
    version = (await kubectl.get("Ingress", "web", namespace))["metadata"]["resourceVersion"]

    os.killpg(leader.command.process.pid, signal.SIGKILL)
    await until(other.leads, 25, "the other operator takes the Lease over when it expired")
    await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
    await until(says(kubectl, namespace, {"ip": "192.0.2.1"}, name="late"), 20, "the new leader writes")
    await proxy.answers(f"late.{namespace}.example", "a")

    third = await ships.operator(*HERE)
    await third.ready()
    assert not await third.leads()
    started = asyncio.get_running_loop().time()
    other.command.process.send_signal(signal.SIGTERM)
    await until(third.leads, 8, "a Lease that is given back is taken at once")
    assert asyncio.get_running_loop().time() - started < 8
    assert await other.command.ended() == 0
    await asyncio.sleep(3)
    assert status_writes(control_plane) == before + 1, "only the new Ingress was written"
    assert (await kubectl.get("Ingress", "web", namespace))["metadata"]["resourceVersion"] == version


async def test_a_layer_4_service_gets_the_address_in_a_form_that_kube_proxy_leaves_alone(
    ships: Fleet, kubectl: Kubectl, namespace: str
) -> None:
    raw = service(namespace, "db")
    raw["spec"] |= {
        "type": "LoadBalancer",
        "loadBalancerClass": "portway.dev/l4",
        "allocateLoadBalancerNodePorts": False,
    }
    raw["spec"]["ports"][0]["port"] = 15432
    await kubectl.apply(raw)
    operator = await ships.operator(*HERE)
    await ships.proxy(operator)
    point = {"ip": "192.0.2.1", "ipMode": "Proxy"}
    await until(says(kubectl, namespace, point, name="db", kind="Service"), 20, "the status is written")
    await kubectl.delete("Service", "db", namespace)


async def test_a_status_is_never_written_into_a_namesake(
    kubectl: Kubectl, namespace: str, control_plane: ControlPlane
) -> None:
    await kubectl.apply(ingress(namespace))
    uid = (await kubectl.get("Ingress", "web", namespace))["metadata"]["uid"]
    await kubectl.delete("Ingress", "web", namespace)
    await kubectl.apply(ingress(namespace))
    connection = control_plane.admin()
    async with connection.session() as session:
        points = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
        path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/web/status"
        with pytest.raises(Conflict):
            await ApiObjects(session, connection).merge(path, {"metadata": {"uid": uid}, "status": points})
    assert await status(kubectl, namespace) is None


async def test_statuses_follow_the_service_that_publishes_the_proxies(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await shop(kubectl, namespace, pod)
    front = service(NAMESPACE, "front")
    front["spec"] |= {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False}
    await kubectl.apply(front)
    operator = await ships.operator("--publish-service", f"{NAMESPACE}/front")
    proxy = await ships.proxy(operator)
    await proxy.answers(f"{namespace}.example", "a")
    for points in ([{"ip": "203.0.113.1"}], [{"ip": "203.0.113.2"}, {"hostname": "lb.example"}]):
        balancer = {"loadBalancer": {"ingress": points}}
        await kubectl.patch("Service", "front", NAMESPACE, {"status": balancer}, "status")
        expected = sorted(points, key=lambda point: point.get("ip", ""))
        await until(says(kubectl, namespace, *expected), 15, "the statuses follow")


async def proxy_pod(kubectl: Kubectl, pod: Pod) -> tuple[str, ...]:
    """Have a proxy's pod on a node with addresses; return the flags that find it."""
    node = [{"type": "InternalIP", "address": "10.0.0.9"}, {"type": "ExternalIP", "address": "203.0.113.9"}]
    await kubectl.patch("Node", "node", None, {"status": {"addresses": node}}, "status")
    await kubectl.pod(NAMESPACE, "proxy-1", pod.address, app="proxy")
    return ("--proxy-selector", "app=proxy", "--operator-selector", "app=operator")


async def test_statuses_name_the_nodes_of_the_proxies_and_are_emptied_with_the_last_pod(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await shop(kubectl, namespace, pod)
    selectors = await proxy_pod(kubectl, pod)
    operator = await ships.operator(*selectors, name="operator-1")
    proxy = await ships.proxy(operator, name="proxy-1")
    await proxy.answers(f"{namespace}.example", "a")
    await until(says(kubectl, namespace, {"ip": "203.0.113.9"}), 20, "the status has the node's address")

    # While a proxy is there, an operator that ends leaves everything as it is.
    assert await operator.command.stop(signal.SIGTERM) == 0
    assert await status(kubectl, namespace) == [{"ip": "203.0.113.9"}]
    operator = await ships.operator(*selectors, name="operator-1")
    await ships.proxy(operator, name="proxy-1")
    await until(operator.leads, 20, "it leads")
    await asyncio.sleep(2)
    await kubectl.delete("Pod", "proxy-1", NAMESPACE)
    assert await operator.command.stop(signal.SIGTERM) == 0
    assert await status(kubectl, namespace) is None


async def test_owners_are_told_what_is_wrong_once_on_the_object(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await kubectl.apply(ingress(namespace))
    replicas = [await ships.operator(*HERE) for _ in range(2)]
    await leader_and_other(replicas)

    async def told() -> bool:
        return bool(await kubectl.list("Event", namespace))

    await until(told, 15, "an Event is there")
    [event] = await kubectl.list("Event", namespace)
    uid = (await kubectl.get("Ingress", "web", namespace))["metadata"]["uid"]
    assert event["involvedObject"]["uid"] == uid
    assert event["involvedObject"]["apiVersion"] == "networking.k8s.io/v1"
    assert (event["type"], event["reason"]) == ("Warning", "ServiceMissing")
    assert event["message"].startswith(f"spec.rules[0].http.paths[0]: There is no Service {namespace}/web.")
    assert event["reportingComponent"] == "portway.dev/operator"

    # A new leader knows what was said.
    leader, other = await leader_and_other(replicas)
    leader.command.process.send_signal(signal.SIGTERM)
    await until(other.leads, 8, "the other leads")
    await asyncio.sleep(4)
    [again] = await kubectl.list("Event", namespace)
    assert again["metadata"]["resourceVersion"] == event["metadata"]["resourceVersion"]
    await shop(kubectl, namespace, pod)
    await asyncio.sleep(4)
    reasons = [one["reason"] for one in await kubectl.list("Event", namespace) if one["reason"] != "NoEndpoints"]
    assert reasons == ["ServiceMissing"], "what is mended is not mentioned"


async def test_the_operator_needs_no_more_than_its_rights_and_writes_nothing_else(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, control_plane: ControlPlane
) -> None:
    before = len(control_plane.audit(USER))
    await shop(kubectl, namespace, pod)
    selectors = await proxy_pod(kubectl, pod)
    for number in range(2):
        operator = await ships.operator(*selectors, name=f"operator-{number}")
        proxy = await ships.proxy(operator, name="proxy-1")
        await proxy.answers(f"{namespace}.example", "a")
        await until(operator.leads, 25, "it leads")
        await kubectl.apply(ingress(namespace, f"bad-{number}", host=f"bad{number}.example", **missing()))
        await until(partial(event_of, kubectl, namespace, f"bad-{number}"), 15, "an Event is there")
        await until(says(kubectl, namespace, {"ip": "203.0.113.9"}), 15, "the status is written")
        await operator.command.stop(signal.SIGTERM)
    entries = control_plane.audit(USER)[before:]
    assert [entry for entry in entries if entry.code == 403] == []
    writes = {
        (entry.resource, entry.subresource)
        for entry in entries
        if entry.verb not in ("get", "list", "watch") and entry.code < 400
    }
    # The authority is made once, and found there by later operators.
    writes -= {("secrets", ""), ("configmaps", "")}
    assert writes == {("ingresses", "status"), ("events", ""), ("leases", ""), ("tokenreviews", "")}


def missing() -> Raw:
    """Return rules that lead to a Service that is not there."""
    backend = {"service": {"name": "missing", "port": {"number": 80}}}
    return {
        "rules": [{"host": "bad.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }


async def event_of(kubectl: Kubectl, namespace: str, name: str) -> bool:
    return any(one["involvedObject"]["name"] == name for one in await kubectl.list("Event", namespace))


def reviewer(namespace: str, port: str) -> Raw:
    """Return the manifest that people apply, but for where the operator is, and for whom it is asked."""
    raw: Raw = yaml.safe_load(WEBHOOK.read_text())
    (hook,) = raw["webhooks"]
    assert hook["failurePolicy"] == "Ignore"
    hook["clientConfig"] = {"url": f"https://127.0.0.1:{port}{hook['clientConfig']['service']['path']}"}
    hook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    raw["metadata"] = {"name": f"portway-{namespace}"}
    return raw


async def rival_is_refused(kubectl: Kubectl, namespace: str) -> Raw:
    """Wait until an Ingress that wants the path of another is refused; return it."""
    # Of two that were made in one second the first name is the older.
    rival = ingress(namespace, "web-rival")
    rival["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "other"
    said: list[tuple[int, str]] = []

    async def refused() -> bool:
        try:
            # Until the API server has heard of the webhook, the rival gets in.
            await kubectl.apply(rival)
            await kubectl.delete("Ingress", "web-rival", namespace)
        except aiohttp.ClientResponseError as error:
            said.append((error.status, error.message))
        return bool(said)

    await until(refused, 20, "the rival is refused")
    [(code, message)] = said
    assert code == 422
    assert f"{namespace}.example / (prefix) is already served by Ingress {namespace}/web" in message
    return rival


async def test_an_ingress_that_would_lose_a_route_never_reaches_the_cluster(
    ships: Fleet, kubectl: Kubectl, namespace: str, control_plane: ControlPlane
) -> None:
    await kubectl.apply(service(namespace), service(namespace, "other"), ingress(namespace))
    certificate, key = control_plane.serving_certificate
    flags = ["--validating-webhook", "127.0.0.1:0", "--validating-webhook-certificate", str(certificate)]
    operator = await ships.operator(*HERE, *flags, "--validating-webhook-key", str(key))
    await operator.ready()
    raw = reviewer(namespace, _last(await operator.command.until(r" webhook on \S+ port \d+$")))
    raw["webhooks"][0]["clientConfig"]["caBundle"] = base64.b64encode(control_plane.ca_file.read_bytes()).decode()
    await kubectl.apply(raw)
    try:
        rival = await rival_is_refused(kubectl, namespace)
        foreign = rival | {"spec": rival["spec"] | {"ingressClassName": "nginx"}}
        await kubectl.apply(foreign)
        await kubectl.patch("Ingress", "web", namespace, {"metadata": {"labels": {"team": "a"}}})
        with pytest.raises(aiohttp.ClientResponseError, match="is already served by"):
            await kubectl.patch("Ingress", "web-rival", namespace, {"spec": {"ingressClassName": "portway"}})
    finally:
        await kubectl.delete("ValidatingWebhookConfiguration", raw["metadata"]["name"])


async def test_a_webhook_needs_no_certificate_of_anybody(ships: Fleet, kubectl: Kubectl, namespace: str) -> None:
    """The operator's own authority makes it, and the API server is told so."""
    await kubectl.apply(service(namespace), service(namespace, "other"), ingress(namespace))
    port = free_port()
    raw = reviewer(namespace, str(port))
    name = raw["metadata"]["name"]
    one = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    rule = {"apiGroups": ["admissionregistration.k8s.io"], "resources": ["validatingwebhookconfigurations"]}
    account = {"kind": "ServiceAccount", "name": "portway-operator", "namespace": "portway"}
    rights: list[Raw] = [
        {"kind": "ClusterRole", "rules": [rule | {"resourceNames": [name], "verbs": ["get", "update"]}]},
        {"kind": "ClusterRoleBinding", "roleRef": one, "subjects": [account]},
    ]
    for each in rights:
        each |= {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    await kubectl.apply(raw, *rights)
    flags = ("--validating-webhook", f"127.0.0.1:{port}", "--validating-webhook-hosts", "127.0.0.1")
    try:
        operator = await ships.operator(*HERE, *flags, "--validating-webhook-configuration", name)
        await operator.ready()
        await rival_is_refused(kubectl, namespace)
    finally:
        for kind in ("ValidatingWebhookConfiguration", "ClusterRole", "ClusterRoleBinding"):
            await kubectl.delete(kind, name)


def _last(line: str) -> str:
    return line.rpartition(" ")[2]


async def waited(ships: Fleet, namespace: str, *flags: str, what: str = "ingress/web") -> tuple[int, str]:
    """Return the status of `portway wait-applied` and what it wrote."""
    arguments = ["-n", namespace, "--kubeconfig", str(ships.plane.kubeconfig()), "--timeout", "15s", *flags]
    async with portway("wait-applied", what, *arguments) as command:
        return await command.ended(), command.said


async def test_waiting_for_a_layer_4_service_ends_when_every_proxy_has_opened_its_port(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await kubectl.pod(namespace, "a", pod.address, app="web")
    operator = await ships.operator(*HERE)
    await ships.proxy(operator)
    raw = service(namespace, "db")
    raw["spec"] |= {"type": "LoadBalancer", "loadBalancerClass": "portway.dev/l4"}
    for _ in range(2):
        raw["spec"]["ports"][0]["port"] = port = free_port()
        await kubectl.apply(raw)
        status, said = await waited(ships, namespace, "--operator", operator.url, what="service/db")
        assert (status, said) == (0, f"Service {namespace}/db is served by 1 proxy")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await reader.readuntil(b"a")).startswith(b"HTTP/1.1 200"), "it is open the moment that the wait ends"
        writer.close()
    await kubectl.apply(service(namespace, "plain"))
    status, said = await waited(ships, namespace, "--operator", operator.url, "--timeout", "1s", what="service/plain")
    assert (status, "is not Portway's to serve" in said) == (1, True), said
    await kubectl.delete("Service", "db", namespace)


async def test_waiting_for_an_ingress_ends_when_every_proxy_serves_it(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, pod_network: PodNetwork
) -> None:
    await shop(kubectl, namespace, pod)
    operator = await ships.operator(*HERE, "--health-address", "0.0.0.0")
    proxies = [await ships.proxy(operator, name=f"proxy-{number}") for number in range(2)]
    await proxies[0].answers(f"{namespace}.example", "a")
    # Directly, and as from somebody's own machine: by way of the API server.
    assert await waited(ships, namespace, "--operator", operator.url) == (
        0,
        f"Ingress {namespace}/web is served by 2 proxies",
    )
    await kubectl.pod(NAMESPACE, "operator-1", pod_network.outer, app="operator")
    front = service(NAMESPACE, "portway-operator", "operator", operator.health_port)
    front["spec"]["ports"][0]["port"] = 8081
    await kubectl.apply(front)
    for path in ("/new", "/newer"):
        await kubectl.apply(ingress(namespace, path=path))
        status, said = await waited(ships, namespace)
        assert (status, said) == (0, f"Ingress {namespace}/web is served by 2 proxies")
        for proxy in proxies:
            assert await proxy.ask(f"{namespace}.example", path) == "a", "it is served the moment that the wait ends"

    # A proxy that cannot answer any more: stopped, as by a node in trouble.
    os.killpg(proxies[1].command.process.pid, signal.SIGSTOP)
    try:
        await kubectl.apply(ingress(namespace, path="/newest"))
        status, said = await waited(ships, namespace, "--timeout", "2s")
        assert status == 1
        assert re.search(r"^proxy-1: It serves version \d+, and not \d+ yet\.$", said, re.MULTILINE), said
        assert "proxy-0:" not in said
    finally:
        os.killpg(proxies[1].command.process.pid, signal.SIGCONT)
    assert (await waited(ships, namespace))[0] == 0
    status, said = await waited(ships, namespace, what="ingress/nothing")
    assert (status, said) == (2, f"portway: There is no Ingress {namespace}/nothing.")
