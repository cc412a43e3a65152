"""A real control plane full of objects, an operator and a proxy as processes, and endpoints that answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from bench.accounting import command_line, memory, tree
from bench.probes import Probes, probing
from bench.processes import Fault, started
from bench.scale_objects import NAMESPACE, PORTS, everything, resource
from bench.stage import Stage
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw, kubectl_on
from cluster.pod_network import PodNetwork
from cluster.replicas import PROXY_TOKENS, Replica, fleet
from cluster.rights import NAMESPACE as OWN
from cluster.rights import operator_rights
from wire.command import Command, portway

__all__ = ["REAL", "WORKERS", "Cluster", "Written", "inhabited", "peak"]

WORKERS = 4
REAL = 2000
"""So many Services lead to endpoints that answer; only these change."""

_WRITERS = 64
_PATIENCE = 120.0
_ENDPOINT = """
daemon off;
worker_processes 1;
user root;
pid {directory}/scale.pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  server {{
    {listen}
    default_type text/plain;
    location / {{ return 200 "$server_port"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Written:
    """When a write was sent and answered, by the clock of the loop, and the version that it made."""

    sent: float
    answered: float
    version: int


class Cluster:
    """The API server, and what runs on it: `start_operator` first, then `start_proxy`."""

    def __init__(
        self, plane: ControlPlane, kubectl: Kubectl, session: aiohttp.ClientSession, exits: AsyncExitStack
    ) -> None:
        self._plane = plane
        self._kubectl = kubectl
        self._session = session
        self._connection = plane.admin()
        self._exits = exits
        self._operator: Replica | None = None
        self.addresses: tuple[str, ...] = ()
        self.operator: list[int] = []
        self.supervisor: list[int] = []
        self.workers: list[int] = []
        self.http_port = 0

    async def fill(self, addresses: tuple[str, ...]) -> None:
        """Create everything."""
        self.addresses = addresses
        ingress_class = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "portway"},
            "spec": {"controller": "portway.dev/ingress-controller"},
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        await self._kubectl.apply(*operator_rights(), ingress_class, namespace)
        objects = everything(addresses, REAL)
        await asyncio.gather(*(self._create(objects) for _ in range(_WRITERS)))

    async def start_operator(self, directory: Path) -> float:
        """Start the operator, and return the seconds until it has published everything."""
        began = asyncio.get_running_loop().time()
        ships = await self._exits.enter_async_context(fleet(self._plane, self._kubectl, directory))
        self._operator = operator = await ships.operator(name="portway-operator-0")
        await _until(lambda: operator.get("/readyz"), operator.command)
        self.operator = [operator.command.process.pid]
        return asyncio.get_running_loop().time() - began

    async def start_proxy(self, directory: Path) -> float:
        """Start the proxy, and return the seconds until it serves."""
        assert self._operator is not None
        bundle = await self._kubectl.get("ConfigMap", "portway-ca", OWN)
        authority, token = directory / "scale-ca.crt", directory / "scale.token"
        authority.write_text(bundle["data"]["ca.crt"])
        token.write_text(await self._kubectl.token(OWN, "portway-proxy", PROXY_TOKENS))
        flags = f"--http-port 0 --https-port 0 --admin-port 0 --workers {WORKERS} --no-access-log --node scale-proxy"
        flags += f" --operator https://127.0.0.1:{self._operator.stream_port} --state-dir {directory / 'scale-state'}"
        began = asyncio.get_running_loop().time()
        command = await self._exits.enter_async_context(
            portway("proxy", "--ca-file", authority, "--token-file", token, *flags.split())
        )
        self.http_port, admin = await _port(command, "http"), await _port(command, "admin")
        client = self._operator.client

        async def ready() -> tuple[int, str]:
            async with client.get(f"http://127.0.0.1:{admin}/readyz") as response:
                return response.status, await response.text()

        await _until(ready, command)
        took = asyncio.get_running_loop().time() - began
        self.supervisor = [command.process.pid]
        self.workers = [pid for pid in tree(command.process.pid) if "portway_proxy.worker" in command_line(pid)]
        return took

    async def probes(self) -> Probes:
        """Return a connection to each worker."""
        return await self._exits.enter_async_context(probing(self.http_port, self.workers))

    async def put(self, raw: Raw) -> Written:
        """Replace an object."""
        url = self._connection.url(resource(raw, raw["metadata"]["name"]))
        data = json.dumps(raw)
        loop = asyncio.get_running_loop()
        sent = loop.time()
        answer = await self._send("PUT", url, data)
        return Written(sent, loop.time(), int(answer["metadata"]["resourceVersion"]))

    async def loop(self) -> dict[str, float]:
        """Return how late the operator's loop was at worst in the last minute, and by its own work, in seconds."""
        assert self._operator is not None
        names = {"lag": "loop_lag_seconds", "busy": "loop_busy_seconds"}
        return {name: await self._operator.metric(metric) for name, metric in names.items()}

    def resident(self) -> dict[str, float]:
        """Return the resident memory of the operator, the supervisor and all workers, in MB."""
        each = {"operator": self.operator, "supervisor": self.supervisor, "workers": self.workers}
        return {name: memory(pids).rss / 1e6 for name, pids in each.items()}

    async def _create(self, objects: Iterator[Raw]) -> None:
        for raw in objects:
            await self._send("POST", self._connection.url(resource(raw)), json.dumps(raw))

    async def _send(self, method: str, url: str, data: str) -> Raw:
        headers = {"Content-Type": "application/json"}
        async with self._session.request(method, url, data=data, headers=headers) as response:
            answer: Raw = await response.json(content_type=None)
            if not response.ok:
                raise Fault(f"{method} {url}: {response.status} {answer.get('message')}")
            return answer


@asynccontextmanager
async def inhabited(plane: ControlPlane, stage: Stage, network: PodNetwork) -> AsyncIterator[Cluster]:
    """Give a cluster with all objects, whose endpoints answer; what runs there ends with it."""
    plane.start()
    # What makes no difference to anything here need not use a core.
    plane.stop_controllers()
    configuration = stage.directory / "scale.conf"
    listen = " ".join(f"listen {port} backlog=4096;" for port in PORTS)
    configuration.write_text(_ENDPOINT.format(directory=stage.directory, listen=listen))
    command = network.inside(["nginx", "-p", str(stage.directory), "-c", str(configuration)])
    async with kubectl_on(plane.admin()) as kubectl, plane.admin().session() as session, AsyncExitStack() as exits:
        exits.enter_context(started(command, stage.directory / "scale.log"))
        cluster = Cluster(plane, kubectl, session, exits)
        await cluster.fill(tuple(map(network.address, range(3))))
        yield cluster


def peak(pids: list[int]) -> float:
    """Return the greatest resident memory that each of these processes ever had, added up, in MB."""
    states = (Path(f"/proc/{pid}/status").read_text() for pid in pids)
    return sum(int(state.partition("VmHWM:")[2].split()[0]) for state in states) * 1024 / 1e6


async def _until(page: Callable[[], Awaitable[tuple[int, str]]], command: Command) -> None:
    """Wait until a readiness page says yes."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PATIENCE
    while (found := await page())[0] != 200:
        if loop.time() > deadline:
            raise Fault(f"not ready after {_PATIENCE:.0f} s: {found[1]}; {command.said[-300:]}")
        await asyncio.sleep(0.02)


async def _port(command: Command, name: str) -> int:
    line = await command.until(rf" {name} on \S+ port \d+$")
    return int(line.rpartition(" ")[2])
