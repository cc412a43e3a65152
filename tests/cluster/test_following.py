"""The operator follows a real API server, and a real proxy serves what real controllers say."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509

from certs import issue
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import Operator, ingress, operating, renew, service, tls_secret
from cluster.pod_network import Pod, PodNetwork
from cluster.rights import NAMESPACE, USER
from cluster.wire import Wire
from eventually import eventually
from portway_operator.objects import Kind
from portway_operator.sources.kube import Pace, Scope
from portway_operator.sources.resources import Target

Operating = Callable[..., AbstractAsyncContextManager[Operator]]


@pytest.fixture
def operate(control_plane: ControlPlane, kubectl: Kubectl, wire: Wire, token_file: Path) -> Operating:
    def start(scope: Scope = Scope(), pace: Pace = Pace()) -> AbstractAsyncContextManager[Operator]:  # noqa: B008 - frozen
        return operating(control_plane, kubectl, wire, token_file, scope, pace)

    return start


@pytest_asyncio.fixture
async def pods(pod_network: PodNetwork) -> AsyncIterator[list[Pod]]:
    """Three servers on pod addresses, named by letters."""
    pods = [Pod(pod_network, number, letter) for number, letter in enumerate("abc")]
    for pod in pods:
        await pod.start()
    yield pods
    for pod in pods:
        await pod.stop()


@asynccontextmanager
async def shop(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], scope: Scope | None = None
) -> AsyncIterator[Operator]:
    """Give an operator that serves pod `a` behind a Service and an Ingress."""
    await kubectl.apply(service(namespace), ingress(namespace))
    await kubectl.pod(namespace, "a", pods[0].address, app="web")
    async with operate(*([scope] if scope else [])) as operator:
        await operator.answers(host(namespace), "/", "a")
        yield operator


def host(namespace: str) -> str:
    return f"{namespace}.example"


async def test_an_ingress_lives_its_life(operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]) -> None:
    async with operate() as operator:
        assert await operator.ask(host(namespace)) == (404, (await operator.ask(host(namespace)))[1])
        await kubectl.apply(ingress(namespace))
        await operator.answers(host(namespace), "/", "503")
        await kubectl.apply(service(namespace))
        await kubectl.pod(namespace, "a", pods[0].address, app="web")
        await operator.answers(host(namespace), "/", "a")
        await kubectl.apply(ingress(namespace, path="/only"))
        await operator.answers(host(namespace), "/", "404")
        await operator.answers(host(namespace), "/only", "a")
        await kubectl.apply(ingress(namespace, host="other.example"))
        await operator.answers(host(namespace), "/only", "404")
        await operator.answers("other.example", "/", "a")
        await kubectl.delete("Ingress", "web", namespace)
        await operator.answers("other.example", "/", "404")


async def test_endpoints_follow_pods_and_their_readiness(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        await kubectl.pod(namespace, "b", pods[1].address, app="web")
        await operator.answers(host(namespace), "/", "a", "b")
        await kubectl.pod(namespace, "c", pods[2].address, app="other")
        await kubectl.pod(namespace, "a", pods[0].address, app="web", ready=False)
        await operator.answers(host(namespace), "/", "b")
        await kubectl.patch("Service", "web", namespace, {"spec": {"selector": {"app": "other"}}})
        await operator.answers(host(namespace), "/", "c")
        await kubectl.delete("Pod", "c", namespace)
        await operator.answers(host(namespace), "/", "503")
        await kubectl.delete("Service", "web", namespace)
        await operator.answers(host(namespace), "/", "503")
        deltas = [update for update in operator.updates if update.delta is not None]
        assert deltas, "endpoints have a lane of their own"


async def test_a_change_of_a_services_ports_moves_the_traffic(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], pod_network: PodNetwork
) -> None:
    beside = Pod(pod_network, 0, "a-beside", port=9090)
    await beside.start()
    async with shop(operate, kubectl, namespace, pods) as operator:
        await kubectl.apply(service(namespace, target=9090))
        await operator.answers(host(namespace), "/", "a-beside")
        changed = ingress(namespace)
        changed["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"] = {"name": "http"}
        await kubectl.apply(changed)
        await operator.answers(host(namespace), "/", "a-beside")
    await beside.stop()


async def test_an_ingress_is_served_while_its_class_is_ours(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        await kubectl.patch("Ingress", "web", namespace, {"spec": {"ingressClassName": "nginx"}})
        await operator.answers(host(namespace), "/", "404")
        name = f"class-{namespace}"
        await kubectl.patch("Ingress", "web", namespace, {"spec": {"ingressClassName": name}})
        classes = {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name}}
        await kubectl.apply(classes | {"spec": {"controller": "portway.dev/ingress-controller"}})
        await operator.answers(host(namespace), "/", "a")
        await kubectl.delete("IngressClass", name)
        await operator.answers(host(namespace), "/", "404")


async def shows(operator: Operator, name: str, serial: int) -> None:
    """Wait until the proxy shows the certificate of this serial number."""
    deadline = asyncio.get_running_loop().time() + 15
    while (shown := await shown_certificate(operator, name)) != serial:
        assert asyncio.get_running_loop().time() < deadline, f"{name} shows {shown}"


async def shown_certificate(operator: Operator, name: str) -> int:
    """Return the serial number of the certificate that the proxy shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = operator.supervisor.https_port
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown).serial_number


async def test_a_certificate_appears_rotates_and_goes(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        default = await shown_certificate(operator, host(namespace))
        await kubectl.apply(ingress(namespace, tls="cert"))
        for _ in range(2):
            chain, key = issue(host(namespace))
            await kubectl.apply(tls_secret(namespace, chain, key))
            await shows(operator, host(namespace), x509.load_pem_x509_certificate(chain).serial_number)
        await kubectl.delete("Secret", "cert", namespace)
        await shows(operator, host(namespace), default)


async def test_what_we_do_not_read_causes_nothing(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        before, seen = len(operator.updates), operator.source.counters.events
        changes, events = len(operator.changes), seen[Kind.INGRESS] + seen[Kind.SERVICE]
        stamp = "2026-01-01T00:00:00Z"
        condition = {"type": "Ok", "status": "True", "reason": "Ok", "message": "", "lastTransitionTime": stamp}
        statuses: dict[str, Raw] = {
            "Ingress": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}},
            "Service": {"conditions": [condition]},
        }
        for kind, status in statuses.items():
            await kubectl.patch(kind, "web", namespace, {"metadata": {"labels": {"team": "a"}}})
            await kubectl.patch(kind, "web", namespace, {"metadata": {"annotations": {"example.com/by": "me"}}})
            await kubectl.patch(kind, "web", namespace, {"status": status}, "status")
        await eventually(lambda: seen[Kind.INGRESS] + seen[Kind.SERVICE] >= events + 6)
        assert len(operator.changes) == changes
        await kubectl.apply(ingress(namespace, "last", host="last.example"))
        await operator.answers("last.example", "/", "a")
        assert len(operator.updates) == before + 1


async def test_what_happens_during_an_outage_is_known_after_it(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], wire: Wire
) -> None:
    await kubectl.apply(ingress(namespace, "doomed", host="doomed.example"))
    async with shop(operate, kubectl, namespace, pods) as operator:
        await operator.answers("doomed.example", "/", "a")
        await wire.cut()
        await kubectl.delete("Ingress", "doomed", namespace)
        await kubectl.pod(namespace, "b", pods[1].address, app="web")
        await kubectl.delete("Pod", "a", namespace)
        await operator.answers("doomed.example", "/", "a")
        await wire.mend()
        await operator.answers("doomed.example", "/", "404")
        await operator.answers(host(namespace), "/", "b")
        await eventually(lambda: operator.source.troubles() == [])


async def test_what_was_deleted_before_a_compaction_is_no_ghost(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], wire: Wire, control_plane: ControlPlane
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        # Seen by the watch, so that the watch asks to resume from its version.
        await kubectl.apply(ingress(namespace, "doomed", host="doomed.example"))
        await operator.answers("doomed.example", "/", "a")
        await wire.cut()
        await kubectl.delete("Ingress", "doomed", namespace)
        control_plane.kill_apiserver()
        control_plane.compact()
        await asyncio.to_thread(control_plane.start_apiserver)
        await wire.mend()
        await operator.answers("doomed.example", "/", "404", seconds=30)
        await eventually(lambda: operator.source.troubles() == [])
        assert operator.source.counters.refusals[Kind.INGRESS, "410"] == 1
        assert operator.source.counters.restarts == 0
        await kubectl.apply(ingress(namespace, "late", host="late.example"))
        await operator.answers("late.example", "/", "a")


async def test_a_missing_right_is_named_and_everything_else_works(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], wire: Wire
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        rules = (await kubectl.get("ClusterRole", "portway-operator"))["rules"]
        less = [rule | {"resources": [name for name in rule["resources"] if name != "secrets"]} for rule in rules]
        await kubectl.patch("ClusterRole", "portway-operator", None, {"rules": less})
        await wire.cut()
        await wire.mend()
        await eventually(lambda: operator.source.counters.refusals[Kind.SECRET, "403"] > 2, 30)
        [trouble] = operator.source.troubles()
        assert trouble.startswith("Secret: 403 secrets is forbidden: User ")
        await kubectl.pod(namespace, "b", pods[1].address, app="web")
        await operator.answers(host(namespace), "/", "a", "b")
        await kubectl.patch("ClusterRole", "portway-operator", None, {"rules": rules})
        await eventually(lambda: operator.source.troubles() == [], 30)


async def test_a_new_token_is_used_when_the_old_one_is_refused(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], wire: Wire, token_file: Path
) -> None:
    async with shop(operate, kubectl, namespace, pods) as operator:
        await kubectl.delete("ServiceAccount", "portway-operator", NAMESPACE)
        account = {"name": "portway-operator", "namespace": NAMESPACE}
        await kubectl.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        async with asyncio.timeout(60):
            # The API server believes a token that it has seen for some seconds more.
            while operator.source.counters.refusals[Kind.SERVICE, "401"] < 2:
                await wire.cut()
                await wire.mend()
                await asyncio.sleep(1)
        await renew(kubectl, token_file)
        await kubectl.pod(namespace, "b", pods[1].address, app="web")
        await operator.answers(host(namespace), "/", "a", "b")


async def test_only_named_config_maps_are_asked_for(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod]
) -> None:
    def config(name: str, mode: str) -> Raw:
        meta = {"name": name, "namespace": NAMESPACE}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"mode": mode}}

    await kubectl.apply(config("portway", "strict"), config("others", "strict"))
    own = Target(Kind.CONFIG_MAP, NAMESPACE, "portway")
    async with operate(Scope(named=frozenset({own}))) as operator:
        assert list(operator.store.config_maps) == [(NAMESPACE, "portway")]
        await kubectl.apply(config("portway", "ingress-nginx"))
        await eventually(lambda: operator.store.config_maps[NAMESPACE, "portway"].data == {"mode": "ingress-nginx"})


async def test_the_operator_needs_no_more_than_its_rights_and_writes_nothing(
    operate: Operating, kubectl: Kubectl, namespace: str, pods: list[Pod], control_plane: ControlPlane
) -> None:
    before = len(control_plane.audit(USER))
    marked = ingress(namespace)
    # What another kopf operator leaves on its objects, and kopf by itself would remove.
    marked["metadata"]["finalizers"] = ["kopf.zalando.org/KopfFinalizerMarker"]
    await kubectl.apply(marked)
    own = Target(Kind.CONFIG_MAP, NAMESPACE, "portway")
    async with shop(operate, kubectl, namespace, pods, Scope(named=frozenset({own}))) as operator:
        await kubectl.apply(marked | {"spec": ingress(namespace, path="/new")["spec"]})
        await operator.answers(host(namespace), "/new", "a")
    entries = control_plane.audit(USER)[before:]
    assert {entry.verb for entry in entries} == {"list", "watch", "get"}
    assert {entry.resource for entry in entries if entry.verb == "get"} == {""}, "discovery only"
    assert [entry for entry in entries if entry.code >= 400] == []
    found = await kubectl.get("Ingress", "web", namespace)
    assert found["metadata"]["finalizers"] == marked["metadata"]["finalizers"]
    await kubectl.patch("Ingress", "web", namespace, {"metadata": {"finalizers": None}})
