"""The chart, installed by Helm into a real API server: its pods run as it says, serve, and leave nothing."""

from __future__ import annotations

import asyncio
import base64
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
import yaml
from helm_python import Config

from chart.rendering import CHART, EARLIER, ROOT, ci_values
from cluster.conftest import give_up
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw, kubectl_on
from cluster.kubelet import Kubelet, kubelet
from cluster.replicas import until
from cluster.wire import Wire
from network import NoNetwork

NAMESPACE = "installed"
ONE_EACH: Raw = {
    "operator": {"replicaCount": 1},
    "controller": {"replicaCount": 1, "drain": {"grace": 0, "timeout": 5}},
}
KINDS = [
    "ConfigMap",
    "DaemonSet",
    "Deployment",
    "Lease",
    "PodDisruptionBudget",
    "Role",
    "RoleBinding",
    "Secret",
    "Service",
    "ServiceAccount",
]
CLUSTERED = ("ClusterRole", "ClusterRoleBinding", "IngressClass", "ValidatingWebhookConfiguration")
LABEL = "app.kubernetes.io/instance=portway"


class Release:
    """The release, and the pods that a node runs of it."""

    def __init__(self, helm: Config, kubectl: Kubectl, node: Kubelet) -> None:
        self.helm = helm
        self.kubectl = kubectl
        self.node = node
        self.address = ""

    async def install(self, values: Raw, chart: Path = CHART) -> None:
        await asyncio.to_thread(self.helm.install, chart, "portway", values, namespace=NAMESPACE)

    async def upgrade(self, values: Raw) -> None:
        await asyncio.to_thread(self.helm.upgrade, CHART, "portway", values, namespace=NAMESPACE)

    async def go(self) -> None:
        """Be uninstalled, and leave nothing."""
        for name in await self._workloads():
            await self.node.stop(name)
        await asyncio.to_thread(self.helm.uninstall, "portway")
        assert await self.left() == []

    async def _workloads(self) -> dict[str, Raw]:
        kinds = [await self.kubectl.list(kind, NAMESPACE) for kind in ("DaemonSet", "Deployment")]
        return {raw["metadata"]["name"]: raw for found in kinds for raw in found}

    async def says_where(self, ingress: str, address: str) -> None:
        """Wait until the status of an Ingress of the demo's namespace has the address alone."""

        async def so() -> bool:
            status = (await self.kubectl.get("Ingress", ingress, "demo"))["status"]
            return bool(status["loadBalancer"].get("ingress") == [{"ip": address}])

        await until(so, 30, f"the Ingress {ingress} says that {address} serves it")

    async def roll(self) -> None:
        """Run what the Deployments say now; the operator first, so that a proxy finds it."""
        names = await self._workloads()
        for name in sorted(names):
            running = await self.node.run(names[name])
            self.node.hosts[f"{name}.{NAMESPACE}.svc"] = running.address
            self.address = running.address

    async def get(self, path: str, body: bytes = b"") -> tuple[int, str]:
        method, url = "POST" if body else "GET", f"http://{self.address}:8080{path}"
        async with aiohttp.request(method, url, headers={"Host": "demo.localhost"}, data=body) as response:
            return response.status, (await response.read()).decode("latin-1")

    async def answers(self, path: str, status: int, said: str = "", body: bytes = b"") -> None:
        seen: list[object] = []

        async def so() -> bool:
            try:
                found = await self.get(path, body)
            except aiohttp.ClientError as error:
                seen[:] = [error]
                return False
            seen[:] = found
            return found[0] == status and said in found[1]

        try:
            await until(so, 30, f"{path} answers {status} {said}")
        except AssertionError as error:
            error.add_note(f"but {seen}")
            raise

    async def left(self) -> list[str]:
        """Return what there is of the release."""
        found = [(kind, raw) for kind in KINDS for raw in await self.kubectl.list(kind, NAMESPACE)]
        found += [(kind, raw) for kind in CLUSTERED for raw in await self.kubectl.list(kind, labelSelector=LABEL)]
        return [f"{kind} {raw['metadata']['name']}" for kind, raw in found]


@pytest_asyncio.fixture
async def release(control_plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Release]:
    """A cluster with a node and a namespace that takes restricted pods only, before anything is installed."""
    async with kubectl_on(control_plane.admin()) as kubectl:
        for raw in await kubectl.list("IngressClass"):
            await kubectl.delete("IngressClass", raw["metadata"]["name"])
        strict = {"pod-security.kubernetes.io/enforce": "restricted"}
        await kubectl.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": strict}},
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "demo"}},
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}},
        )
        try:
            async with kubelet(control_plane, kubectl, tmp_path) as node:
                with Config(kubeconfig_path=control_plane.kubeconfig(), namespace=NAMESPACE) as helm:
                    yield Release(helm, kubectl, node)
        except NoNetwork as reason:
            give_up(str(reason))
        finally:
            # Other tests' operators read all of the cluster.
            for kind in ("Ingress", "Service", "Deployment", "Pod"):
                for raw in await kubectl.list(kind, "demo"):
                    await kubectl.delete(kind, raw["metadata"]["name"], "demo")


async def _demo(release: Release, ingress_class: str = "portway") -> None:
    """Apply the demo's manifests, for a class, and run the pods of its Deployments."""
    for file in ("apps.yaml", "ingress.yaml"):
        for raw in yaml.safe_load_all((ROOT / "manifests" / "demo" / file).read_text()):
            if raw["kind"] == "Ingress":
                raw["spec"]["ingressClassName"] = ingress_class
            if raw["kind"] != "IngressClass":  # The chart's.
                raw["metadata"]["namespace"] = "demo"
                await release.kubectl.apply(raw)
    for raw in await release.kubectl.list("Deployment", "demo"):
        await release.node.run(raw)


async def test_a_release_is_installed_serves_the_demo_is_upgraded_and_leaves_nothing(release: Release) -> None:
    kubectl = release.kubectl
    await release.install(ONE_EACH)
    await release.roll()
    address = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.80"}]}}}
    await kubectl.patch("Service", "portway-proxy", NAMESPACE, address, "status")

    await _demo(release)
    await release.answers("/", 200, "sent by 5000")
    await release.answers("/", 200, "sent by 5001")
    await release.answers("/message", 200, "Hello from behind Portway.")
    await release.answers("/images", 200, "PNG")
    assert await _echo(release, b"opaque") == b"opaque"

    await release.says_where("demo", "192.0.2.80")
    await until(lambda: _has_port(kubectl), 20, "the Service has the layer 4 port")

    before = await kubectl.get("Secret", "portway-affinity", NAMESPACE)
    authority = await kubectl.get("Secret", "portway-authority", NAMESPACE)
    changed = {**ONE_EACH["controller"], "config": {"proxy-body-size": "10"}, "podAnnotations": {"turn": "two"}}
    await release.upgrade({**ONE_EACH, "controller": changed})
    await release.answers("/message", 413, body=b"more than ten bytes")
    assert await _has_port(kubectl)
    assert (await kubectl.get("Secret", "portway-affinity", NAMESPACE))["data"] == before["data"]
    assert (await kubectl.get("Secret", "portway-authority", NAMESPACE))["data"] == authority["data"]
    await release.roll()
    await release.answers("/", 200, "sent by 5000")
    await _helm_test(release)

    await release.go()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("nc")), reason="it needs curl and nc (netcat-openbsd)")
async def test_what_make_kind_installs_answers_what_make_kind_asks(release: Release) -> None:
    """Without Docker: the chart with kind's values and the demo, asked by kind's script on the node's own ports."""
    allowed = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}}  # Host ports.
    await release.kubectl.patch("Namespace", NAMESPACE, None, allowed)
    await release.install(yaml.safe_load((ROOT / "manifests" / "kind" / "values.yaml").read_text()))
    await release.roll()
    await _demo(release)
    process = await asyncio.create_subprocess_exec(
        *release.node.network.inside([str(ROOT / "manifests" / "kind" / "try.sh")]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    lines = said.decode().splitlines()
    assert process.returncode == 0, lines
    assert [line.partition(":")[0] for line in lines] == ["HTTP", "HTTP", "HTTP", "HTTPS", "TCP"]
    await release.says_where("demo", "127.0.0.1")
    await release.go()


async def test_in_one_pod_the_halves_find_each_other_without_a_network(release: Release) -> None:
    await release.install({"singlePod": True, **{key: ONE_EACH[key] for key in ("controller",)}})
    await release.roll()
    await _demo(release)
    await release.answers("/message", 200, "Hello from behind Portway.")
    await release.go()


async def test_with_rights_in_one_namespace_and_client_certificates_the_demo_is_served(release: Release) -> None:
    scope = {"enabled": True, "namespaces": ["demo"]}
    await release.install(
        {
            "operator": {"replicaCount": 1},
            "controlPlane": {"auth": "mtls"},
            "rbac": {"secretNamespaces": [], "secrets": ["demo/shop-tls"]},
            "controller": {**ONE_EACH["controller"], "scope": scope, "statusAddresses": ["192.0.2.80"]},
        }
    )
    await release.roll()
    await _demo(release)
    await release.answers("/message", 200, "Hello from behind Portway.")
    await release.says_where("demo", "192.0.2.80")
    await release.go()
    assert [raw for raw in await release.kubectl.list("Role", "demo") if "portway" in raw["metadata"]["name"]] == []


async def test_a_release_of_an_earlier_chart_is_upgraded_and_keeps_what_it_had(release: Release) -> None:
    kubectl = release.kubectl
    # The API server does not reach Services here, and need not: who does not answer in a second is passed over.
    webhooks = {"enabled": True, "port": 9443, "timeoutSeconds": 1}
    values = {**ONE_EACH, "controller": {**ONE_EACH["controller"], "admissionWebhooks": webhooks}}
    await release.install(values, EARLIER[-1])
    await release.roll()
    await _demo(release)
    await release.answers("/message", 200, "Hello from behind Portway.")
    names = ("portway-admission", "portway-affinity", "portway-authority")
    kept = [await kubectl.get("Secret", name, NAMESPACE) for name in names]
    await release.upgrade(values)
    await release.roll()
    await release.answers("/message", 200, "Hello from behind Portway.")
    for before in kept:
        assert (await kubectl.get("Secret", before["metadata"]["name"], NAMESPACE))["data"] == before["data"]
    [hook] = (await kubectl.get("ValidatingWebhookConfiguration", f"{NAMESPACE}-portway"))["webhooks"]
    assert hook["clientConfig"]["caBundle"] == kept[0]["data"]["ca.crt"]
    await release.go()


async def test_the_api_server_trusts_the_operators_own_certificate_and_an_upgrade_leaves_it_that(
    release: Release,
) -> None:
    # A node of these tests has one network for all its pods: the port is one that no proxy has.
    webhooks = {"enabled": True, "certificates": "operator", "port": 9443}
    values = {**ONE_EACH, "controller": {**ONE_EACH["controller"], "admissionWebhooks": webhooks}}
    await release.install(values)
    await release.roll()
    name = f"{NAMESPACE}-portway"

    async def bundle() -> str:
        [hook] = (await release.kubectl.get("ValidatingWebhookConfiguration", name))["webhooks"]
        return str(hook["clientConfig"].get("caBundle", ""))

    async def told() -> bool:
        return bool(await bundle())

    await until(told, 30, "the API server is told whom to trust")
    trusted = await bundle()
    context = ssl.create_default_context(cadata=base64.b64decode(trusted).decode())
    host = f"portway-admission.{NAMESPACE}.svc"
    _, writer = await asyncio.open_connection(release.address, 9443, ssl=context, server_hostname=host)
    writer.transport.abort()
    await release.upgrade({**values, "operator": {"replicaCount": 1, "podAnnotations": {"turn": "two"}}})
    assert await bundle() == trusted
    await release.go()


async def test_beside_ingress_nginx_its_class_is_served_and_nothing_is_written_until_that_is_asked_for(
    release: Release,
) -> None:
    kubectl = release.kubectl
    meta = {"name": "nginx"}
    spec = {"controller": "k8s.io/ingress-nginx"}
    await kubectl.apply(
        {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": meta, "spec": spec},
    )
    step = ci_values("in-place-of-ingress-nginx-values.yaml")
    values = {**step, "operator": {**step["operator"], **ONE_EACH["operator"]}}
    values["controller"] = {**step["controller"], **ONE_EACH["controller"], "statusAddresses": ["192.0.2.80"]}
    await release.install(values)
    await release.roll()
    await _demo(release, ingress_class="nginx")
    await release.answers("/message", 200, "Hello from behind Portway.")
    assert (await kubectl.get("Ingress", "demo", "demo"))["status"]["loadBalancer"] == {}

    values["operator"] = {**values["operator"], "extraArgs": {"update-status": "true"}}
    await release.upgrade(values)
    await release.roll()
    await release.says_where("demo", "192.0.2.80")
    await release.go()
    assert await kubectl.get("IngressClass", "nginx")
    await kubectl.delete("IngressClass", "nginx")


async def _has_port(kubectl: Kubectl) -> bool:
    service = await kubectl.get("Service", "portway-proxy", NAMESPACE)
    return [port["name"] for port in service["spec"]["ports"]] == ["http", "https", "l4-tcp-9000"]


async def _echo(release: Release, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(release.address, 9000)
    writer.write(text)
    await writer.drain()
    try:
        return await asyncio.wait_for(reader.readexactly(len(text)), 10)
    finally:
        writer.transport.abort()


async def _helm_test(release: Release) -> None:
    """Run `helm test`, whose pod reaches the Service's port as kube-proxy would lead it."""
    service = release.node.network.address(100)
    release.node.hosts[f"portway-proxy.{NAMESPACE}.svc"] = service
    port = Wire(8080, release.address, release.node.network.listen(service, 80))
    await port.mend()
    test = asyncio.create_task(asyncio.to_thread(release.helm.test, "portway", timeout=60))  # noqa: TID251 - awaited below
    pods: list[Raw] = []

    async def there() -> bool:
        pods[:] = [
            raw for raw in await release.kubectl.list("Pod", NAMESPACE) if raw["metadata"]["name"] == "portway-test"
        ]
        return bool(pods) or test.done()

    try:
        await until(there, 30, "Helm makes the pod of its test")
        command = await release.node.finish(pods[0])
        assert [line.rpartition(" ")[2] for line in command.out] == ["200", "200"], command.said
        await test
    finally:
        await port.cut()
