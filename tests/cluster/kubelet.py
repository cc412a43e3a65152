"""What a scheduler, a kubelet and kube-proxy do, as far as Portway's pods need it: without images, on this machine.

A pod's containers are processes of this checkout with exactly the arguments, environment and files of the pod's spec,
in mount namespaces of their own and in one network namespace for all; so no two pods may open one port.
"""

from __future__ import annotations

import base64
import itertools
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.replicas import until
from cluster.wire import Wire
from network import Network
from wire.command import Command, portway

__all__ = ["Kubelet", "RunningPod", "kubelet"]

_API_PORT = 6443
_LABEL = re.compile(r"metadata\.labels\['(.+)'\]")


@dataclass
class RunningPod:
    """A pod and the processes of its containers."""

    raw: Raw
    address: str
    containers: dict[str, Command]
    exits: AsyncExitStack = field(default_factory=AsyncExitStack)


class Kubelet:
    """Runs pods on one node; `hosts` are names that they find in their /etc/hosts."""

    def __init__(self, plane: ControlPlane, kubectl: Kubectl, network: Network, directory: Path) -> None:
        self.hosts: dict[str, str] = {}
        self.network = network
        self._plane = plane
        self._kubectl = kubectl
        self._directory = directory
        self._numbers = itertools.count(1)
        self._pods: dict[str, RunningPod] = {}

    async def run(self, workload: Raw) -> RunningPod:
        """Run one pod of a Deployment or DaemonSet until it is ready, in the place of the one before."""
        template, meta = workload["spec"]["template"], workload["metadata"]
        number = next(self._numbers)
        await self.stop(meta["name"])
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"] | {"name": f"{meta['name']}-{number}", "namespace": meta["namespace"]},
            "spec": template["spec"] | {"nodeName": "node"},
        }
        running = await self.start(await self._kubectl.apply(pod), number)
        self._pods[meta["name"]] = running
        for container in pod["spec"]["containers"]:
            await self._ready(container, running)
        await self._report(running, "Running", ready=True)
        return running

    async def start(self, pod: Raw, number: int = 0) -> RunningPod:
        """Start the containers of a pod that the API server has."""
        running = RunningPod(pod, self.network.address(number), {})
        volumes = [await self._volume(pod, volume, running) for volume in pod["spec"].get("volumes", [])]
        for container in pod["spec"]["containers"]:
            within = self._within(pod, container, running.address, dict(volumes))
            arguments = container.get("args", [])
            if program := container.get("command", []):  # Of the image's programs, Python alone is started in this way.
                within, arguments = [*within, sys.executable, *program[1:], *arguments], []
            command = await running.exits.enter_async_context(portway(*arguments, within=within))
            running.containers[container["name"]] = command
        return running

    async def finish(self, pod: Raw) -> Command:
        """Run a pod of one container to its end, report how it ended, and return what ran."""
        running = await self.start(pod)
        [command] = running.containers.values()
        status = await command.ended()
        await self._report(running, "Failed" if status else "Succeeded")
        await running.exits.aclose()
        return command

    async def stop(self, workload: str) -> None:
        """End the pod of a workload, by SIGTERM, and remove it."""
        running = self._pods.pop(workload, None)
        if running is None:
            return
        await self._kubectl.patch(
            "Pod", running.raw["metadata"]["name"], _namespace(running), _CONDITION_GONE, "status"
        )
        for command in running.containers.values():
            command.process.terminate()
        for command in running.containers.values():
            assert await command.ended() == 0, command.said
        await running.exits.aclose()
        await self._kubectl.delete("Pod", running.raw["metadata"]["name"], _namespace(running))

    async def close(self) -> None:
        """End everything at once."""
        for running in self._pods.values():
            await running.exits.aclose()

    async def _report(self, running: RunningPod, phase: str, *, ready: bool = False) -> None:
        condition = {"type": "Ready", "status": str(ready)}
        status = {"phase": phase, "podIP": running.address, "podIPs": [{"ip": running.address}]}
        body = {"status": status | {"conditions": [condition]}}
        await self._kubectl.patch("Pod", running.raw["metadata"]["name"], _namespace(running), body, "status")

    async def _ready(self, container: Raw, running: RunningPod) -> None:
        """Wait until the container's readiness probe passes."""
        probe = container.get("readinessProbe", {}).get("httpGet")
        if probe is None:
            return
        port = next(each["containerPort"] for each in container["ports"] if each["name"] == probe["port"])
        url = f"http://{running.address}:{port}{probe['path']}"

        async def passes() -> bool:
            try:
                async with aiohttp.request("GET", url) as response:
                    return response.status == 200
            except aiohttp.ClientError:
                return False

        await until(passes, 30, f"{url} answers 200", running.containers[container["name"]])

    def _within(self, pod: Raw, container: Raw, address: str, volumes: dict[str, Path]) -> list[str]:
        """Return the command that becomes a container's process."""
        hosts = "".join(f"{ip} {name}\n" for name, ip in self.hosts.items())
        own = self._directory / f"{pod['metadata']['name']}-{container['name']}"
        for name in ("first", "layers"):
            (own / name).mkdir(parents=True)
        (own / "first" / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        # The host's /etc and /run are hidden below, and nothing is written to them.
        steps = [
            f"mount -t tmpfs tmpfs {own}/layers",
            f"mkdir {own}/layers/upper {own}/layers/own && cp {own}/first/hosts {own}/layers/upper",
            f"mount -t overlay overlay -o lowerdir=/etc,upperdir={own}/layers/upper,workdir={own}/layers/own /etc",
            "mount -t tmpfs tmpfs /run",
        ]
        for mount in container.get("volumeMounts", []):
            source, target = shlex.quote(str(volumes[mount["name"]])), shlex.quote(mount["mountPath"])
            steps += [f"mkdir -p {target}", f"mount --bind {source} {target}"]
        script = " && ".join([*steps, 'exec "$@"'])
        variables = [f"{each['name']}={_variable(each, pod, address)}" for each in container.get("env", [])]
        variables += ["KUBERNETES_SERVICE_HOST=127.0.0.1", f"KUBERNETES_SERVICE_PORT={_API_PORT}"]
        return self.network.inside(["unshare", "--mount", "sh", "-c", script, "sh", "env", *variables])

    async def _volume(self, pod: Raw, volume: Raw, running: RunningPod) -> tuple[str, Path]:
        """Return a volume's name and its directory, filled."""
        name, namespace = volume["name"], pod["metadata"]["namespace"]
        if volume.get("emptyDir", {}).get("medium") == "Memory":
            memory = tempfile.mkdtemp(dir="/dev/shm")
            running.exits.callback(shutil.rmtree, memory)
            return name, Path(memory)
        directory = self._directory / pod["metadata"]["name"] / name
        directory.mkdir(parents=True)
        if "configMap" in volume:
            await self._files(directory, "ConfigMap", volume["configMap"]["name"], namespace, volume["configMap"])
        elif "secret" in volume:
            await self._files(directory, "Secret", volume["secret"]["secretName"], namespace, volume["secret"])
        for source in volume.get("projected", {}).get("sources", []):
            await self._project(directory, source, pod)
        return name, directory

    async def _files(self, directory: Path, kind: str, name: str, namespace: str, volume: Raw) -> None:
        """Write the keys that are asked for once all are there."""
        data: dict[str, str] = {}
        wanted = {item["key"]: item["path"] for item in volume.get("items", [])}

        async def there() -> bool:
            data.clear()
            data.update((await self._kubectl.get(kind, name, namespace)).get("data", {}))
            return wanted.keys() <= data.keys()

        await until(there, 20, f"{kind} {namespace}/{name} has {', '.join(wanted)}")
        for key in wanted or data:
            content = base64.b64decode(data[key]) if kind == "Secret" else data[key].encode()
            (directory / wanted.get(key, key)).write_bytes(content)

    async def _project(self, directory: Path, source: Raw, pod: Raw) -> None:
        namespace = pod["metadata"]["namespace"]
        if token := source.get("serviceAccountToken"):
            audiences: Iterable[str] = [token["audience"]] if "audience" in token else []
            account = pod["spec"]["serviceAccountName"]
            (directory / token["path"]).write_text(await self._kubectl.token(namespace, account, *audiences, pod=pod))
        elif source.get("configMap", {}).get("name") == "kube-root-ca.crt":
            (directory / "ca.crt").write_bytes(self._plane.ca_file.read_bytes())
        elif items := source.get("downwardAPI", {}).get("items"):
            for item in items:
                (directory / item["path"]).write_text(_field(item["fieldRef"]["fieldPath"], pod, ""))


_CONDITION_GONE = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}


def _namespace(running: RunningPod) -> str:
    return str(running.raw["metadata"]["namespace"])


def _variable(variable: Raw, pod: Raw, address: str) -> str:
    if "value" in variable:
        return str(variable["value"])
    return _field(variable["valueFrom"]["fieldRef"]["fieldPath"], pod, address)


def _field(path: str, pod: Raw, address: str) -> str:
    if label := _LABEL.fullmatch(path):
        return str(pod["metadata"].get("labels", {}).get(label[1], ""))
    known = {"metadata.name": pod["metadata"]["name"], "metadata.namespace": pod["metadata"]["namespace"]}
    return str({**known, "status.podIP": address}[path])


@asynccontextmanager
async def kubelet(plane: ControlPlane, kubectl: Kubectl, directory: Path) -> AsyncIterator[Kubelet]:
    """Give a node whose pods reach the API server; everything ends with it."""
    network = Network()
    api = Wire(plane.port, listening=network.listen("127.0.0.1", _API_PORT))
    node = Kubelet(plane, kubectl, network, directory)
    try:
        await api.mend()
        yield node
    finally:
        await node.close()
        await api.cut()
        network.close()
