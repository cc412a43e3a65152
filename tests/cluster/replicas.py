"""Whole operators and proxies as processes of their own, on the real API server with the manifests' rights."""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import yaml
from cryptography import x509

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service
from cluster.pod_network import Pod
from cluster.rights import NAMESPACE
from eventually import eventually
from portway_proxy.tasks import Tasks
from wire.command import Command, portway

__all__ = ["PROXY_TOKENS", "Fleet", "Load", "Replica", "RunningProxy", "fleet", "shop", "until"]

_ANY = ("--health-port", "0", "--stream-address", "127.0.0.1", "--stream-port", "0", "--stream-hosts", "127.0.0.1")
_QUIET = ("--http-port", "0", "--https-port", "0", "--admin-port", "0", "--workers", "1", "--no-access-log")
PROXY_TOKENS = "portway-config"


@dataclass
class Replica:
    """A running operator."""

    command: Command
    client: aiohttp.ClientSession
    health_port: int
    stream_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.health_port}"

    async def get(self, path: str) -> tuple[int, str]:
        """Return the status and the body of a page of the health server."""
        async with self.client.get(self.url + path) as response:
            return response.status, await response.text()

    async def metric(self, name: str) -> float:
        """Return a sample of the metrics."""
        _, text = await self.get("/metrics")
        [value] = re.findall(rf"^portway_operator_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(value)

    async def leads(self) -> bool:
        return await self.metric("leader") == 1

    async def ready(self) -> None:
        """Wait until it is."""
        await until(self._is_ready, 30, "the operator is ready", self.command)

    async def _is_ready(self) -> bool:
        return (await self.get("/readyz"))[0] == 200


@dataclass
class RunningProxy:
    """A running proxy."""

    command: Command
    client: aiohttp.ClientSession
    http_port: int
    https_port: int
    admin_port: int

    async def page(self, path: str) -> tuple[int, str]:
        """Return the status and the body of a page of the admin server."""
        async with self.client.get(f"http://127.0.0.1:{self.admin_port}{path}") as response:
            return response.status, await response.text()

    async def ask(self, host: str, path: str = "/") -> str:
        """Return the body that it answers with, or the status when that is not 200."""
        url = f"http://127.0.0.1:{self.http_port}{path}"
        async with self.client.get(url, headers={"Host": host}, allow_redirects=False) as response:
            return (await response.text()).strip() if response.status == 200 else str(response.status)

    async def shake_hands(self, host: str) -> tuple[int, str]:
        """Return the serial number of the certificate that is shown for `host`, and the body that comes with it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        reader, writer = await asyncio.open_connection("127.0.0.1", self.https_port, ssl=context, server_hostname=host)
        try:
            shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            writer.transport.abort()
        return x509.load_der_x509_certificate(shown).serial_number, answer.decode().rpartition("\r\n")[2]

    async def answers(self, host: str, wanted: str, path: str = "/", seconds: float = 20.0) -> None:
        """Wait until it answers so."""

        async def so() -> bool:
            return await self.ask(host, path) == wanted

        await until(so, seconds, f"{host}{path} answers {wanted}", self.command)


class Load:
    """Requests to a proxy without a pause, beside what a test does; each must get an answer out of `wanted`."""

    def __init__(self, proxy: RunningProxy, host: str, *wanted: str) -> None:
        self._proxy = proxy
        self._host = host
        self._wanted = wanted
        self.answered = 0
        self.failed: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """Ask again and again until the block ends, and then fail if any request did."""
        tasks = Tasks()
        clients = [tasks.spawn(self._ask(), f"client {number}") for number in range(4)]
        try:
            yield self
            assert not any(client.done() for client in clients)
        finally:
            await tasks.close()
        assert self.failed == []

    async def more(self, count: int = 50) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answered + count
        await eventually(lambda: self.answered >= wanted, 20, "the proxy answers")

    async def _ask(self) -> None:
        while True:
            try:
                said = await self._proxy.ask(self._host)
            except (aiohttp.ClientError, OSError) as error:
                said = repr(error)
            if said in self._wanted:
                self.answered += 1
            else:
                self.failed.append(said)
            await asyncio.sleep(0.01)


@dataclass
class Fleet:
    """What operators and proxies of a test share."""

    plane: ControlPlane
    kubectl: Kubectl
    directory: Path
    client: aiohttp.ClientSession
    exits: AsyncExitStack
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def operator(self, *flags: str, name: str = "", server: str = "") -> Replica:
        """Start an operator as its service account, whose API server is at `server`; it ends with the test."""
        name = name or f"portway-operator-{next(self._numbers)}"
        kubeconfig = await self._kubeconfig(name, server or self.plane.url)
        arguments: list[str | Path] = [
            "operator",
            "--kubeconfig",
            kubeconfig,
            "--pod-name",
            name,
            "--pod-namespace",
            NAMESPACE,
        ]
        command = await self.exits.enter_async_context(portway(*arguments, *_ANY, *flags))
        stream = 0 if "--stream-socket" in flags else await _port(command, "stream")
        return Replica(command, self.client, await _port(command, "health"), stream)

    async def proxy(self, *operators: Replica, name: str = "", flags: tuple[str, ...] = ()) -> RunningProxy:
        """Start a proxy that follows the operators with its token, as its pod does; it ends with the test."""
        name = name or f"portway-proxy-{next(self._numbers)}"
        token, authority = self.directory / f"{name}.token", await self.authority()
        token.write_text(await self.kubectl.token(NAMESPACE, "portway-proxy", PROXY_TOKENS))
        followed = [part for one in operators for part in ("--operator", f"https://127.0.0.1:{one.stream_port}")]
        files = ["--ca-file", str(authority), "--token-file", str(token)]
        return await self.follower(*followed, *files, *flags, name=name)

    async def follower(self, *flags: str, name: str) -> RunningProxy:
        """Start a proxy that follows as the flags say; it ends with the test."""
        own = ["--state-dir", str(self.directory / name), "--node", name, *_QUIET]
        command = await self.exits.enter_async_context(portway("proxy", *flags, *own))
        ports = [await _port(command, what) for what in ("http", "https", "admin")]
        return RunningProxy(command, self.client, *ports)

    async def _kubeconfig(self, name: str, server: str) -> Path:
        token = self.directory / f"{name}.token"
        token.write_text(await self.kubectl.token(NAMESPACE, "portway-operator"))
        config = self.kubeconfig({"tokenFile": str(token)}, NAMESPACE, server)
        path = self.directory / f"{name}.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def kubeconfig(self, user: Raw, namespace: str, server: str = "") -> Raw:
        """Return a kubeconfig of a user."""
        cluster = {"server": server or self.plane.url, "certificate-authority": str(self.plane.ca_file)}
        context = {"cluster": "here", "user": "us", "namespace": namespace}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "us", "user": user}],
            "contexts": [{"name": "here", "context": context}],
            "current-context": "here",
        }

    async def authority(self) -> Path:
        """Return a file with the authority that operators publish for proxies."""
        path = self.directory / "ca.crt"

        async def there() -> bool:
            try:
                bundle = (await self.kubectl.get("ConfigMap", "portway-ca", NAMESPACE)).get("data", {}).get("ca.crt")
            except aiohttp.ClientResponseError:
                return False
            if bundle:
                await asyncio.to_thread(path.write_text, bundle)
            return bool(bundle)

        await until(there, 20, "the operator publishes its authority")
        return path


@asynccontextmanager
async def fleet(plane: ControlPlane, kubectl: Kubectl, directory: Path) -> AsyncIterator[Fleet]:
    """Give a fleet without any operator or proxy; all that is started ends with it."""
    async with aiohttp.ClientSession() as client, AsyncExitStack() as exits:
        yield Fleet(plane, kubectl, directory, client, exits)


async def shop(kubectl: Kubectl, namespace: str, pod: Pod) -> None:
    """Have an Ingress whose Service leads to `pod`."""
    await kubectl.apply(service(namespace), ingress(namespace))
    await kubectl.pod(namespace, "a", pod.address, app="web")


async def until(
    claim: Callable[[], Awaitable[bool]], seconds: float, what: str, command: Command | None = None
) -> None:
    """Return as soon as `claim` comes true; fail with `what`, and what the command wrote, after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await claim():
        said = "" if command is None else f"\n{command.said}"
        assert loop.time() < deadline, f"not within {seconds:.0f} s: {what}{said}"
        await asyncio.sleep(0.05)


async def _port(command: Command, name: str) -> int:
    line = await command.until(rf" {name} on \S+ port \d+$")
    return int(line.rpartition(" ")[2])
