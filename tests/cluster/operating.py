"""An operator on the real API server with the chart's rights, and a real proxy that serves what it publishes."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.rights import NAMESPACE
from cluster.wire import Wire
from eventually import eventually
from portway_operator.lanes import steer
from portway_operator.rebuild import Rebuild, Update
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection, TokenFile
from portway_operator.sources.kube import Change, KubeSource, Pace, Scope
from portway_operator.store import ObjectStore
from portway_proxy.settings import ProxySettings
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks

__all__ = ["Operator", "ingress", "judged", "operating", "renew", "service", "tls_secret"]

EVERYTHING = Scope()
PATIENT = Pace()


@dataclass
class Operator:
    """What tests look at: the source, what it told, what was published, and the proxy."""

    store: ObjectStore
    source: KubeSource
    supervisor: Supervisor
    changes: list[Change]
    updates: list[Update] = field(default_factory=list)
    client: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    async def ask(self, host: str, path: str = "/") -> tuple[int, str]:
        """Return the status and the body that the proxy answers with."""
        url = f"http://127.0.0.1:{self.supervisor.http_port}{path}"
        async with self.client.get(url, headers={"Host": host}) as response:
            return response.status, (await response.text()).strip()

    async def answers(self, host: str, path: str, *wanted: str, seconds: float = 15.0) -> None:
        """Wait until the proxy answers with exactly these bodies (or statuses) and no others, each at least once."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            seen = set()
            for _ in range(4 * len(wanted)):
                status, body = await self.ask(host, path)
                seen.add(body if status == 200 else str(status))
            if seen == set(wanted):
                return
            assert asyncio.get_running_loop().time() < deadline, f"{host}{path} answers {seen}, not {set(wanted)}"
            await asyncio.sleep(0.02)


async def renew(kubectl: Kubectl, token_file: Path) -> None:
    """Write a fresh token of the operator's account, as the kubelet does."""
    token = await kubectl.token(NAMESPACE, "portway-operator")
    await asyncio.to_thread(token_file.write_text, token)


@asynccontextmanager
async def operating(
    plane: ControlPlane,
    kubectl: Kubectl,
    wire: Wire,
    token_file: Path,
    scope: Scope = EVERYTHING,
    pace: Pace = PATIENT,
) -> AsyncIterator[Operator]:
    """Give an operator whose requests go over `wire`, with its first snapshot served."""
    await renew(kubectl, token_file)
    connection = Connection(f"https://127.0.0.1:{wire.port}", NAMESPACE, TokenFile(token_file), plane.ca_file)
    store, changes = ObjectStore(), list[Change]()
    settings = ProxySettings(http_port=0, https_port=0, admin_port=0, workers=2, access_log=False)
    supervisor = Supervisor(settings)
    tasks = Tasks()
    await supervisor.start()

    async def publish(update: Update) -> None:
        if update.delta is not None:
            await supervisor.patch(update.delta)
        else:
            await supervisor.apply(update.snapshot)
        operator.updates.append(update)

    rebuild = Rebuild(store, CompileSettings(), publish)
    take = steer(rebuild)
    source = KubeSource(connection, store, _both(changes.append, take), scope, pace)
    operator = Operator(store, source, supervisor, changes)
    try:
        tasks.spawn(rebuild.run(), "rebuild")
        source.start()
        await eventually(source.listed.is_set, 30, "everything is listed")
        rebuild.ready()
        await eventually(lambda: operator.updates, what="the first snapshot is served")
        yield operator
    finally:
        await source.stop()
        await tasks.close()
        await operator.client.close()
        await supervisor.close()


def _both(first: Callable[[Change], None], second: Callable[[Change], None]) -> Callable[[Change], None]:
    def take(change: Change) -> None:
        first(change)
        second(change)

    return take


def service(namespace: str, name: str = "web", app: str = "web", target: int | str = 8080) -> Raw:
    spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def ingress(namespace: str, name: str = "web", host: str = "", path: str = "/", tls: str = "", **more: object) -> Raw:
    """Return an Ingress of ours for the Service `web`; its host is the namespace's name unless said otherwise."""
    host = host or f"{namespace}.example"
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    spec: Raw = {
        "ingressClassName": "portway",
        "rules": [{"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}}],
    }
    if tls:
        spec["tls"] = [{"hosts": [host], "secretName": tls}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec | more,
    }


def tls_secret(namespace: str, chain: bytes, key: bytes, name: str = "cert") -> Raw:
    data = {"tls.crt": base64.b64encode(chain).decode(), "tls.key": base64.b64encode(key).decode()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": data}


async def judged(plane: ControlPlane, namespace: str, *command: str) -> tuple[int, Raw]:
    """Return the status and the JSON of a command of ours that looks at one namespace."""
    where = ("--kubeconfig", str(plane.kubeconfig()), "--watch-namespace", namespace)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "portway_operator", *command, *where, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out)
