"""The demo: its applications, and Portway in front of them with the demo's manifests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

import portway_operator
from portway_operator.apps import claim, start_app
from portway_operator.standalone import Standalone
from portway_proxy.settings import ProxySettings

__all__ = ["APPS", "Demo", "manifests", "rewrite"]

APPS: Mapping[str, tuple[str, int]] = {
    "hello-5000": ("hello", 5000),
    "hello-5001": ("hello", 5001),
    "echo": ("echo", 5002),
    "images": ("images", 5003),
    "message": ("message", 5004),
}
"""The applications of the demo by name, each with its kind and its port in the manifests."""

LISTENER = 9000
"""The layer 4 port of the manifests."""


def manifests() -> Path:
    """Return the folder of the demo's manifests: inside of the package when installed, else in the checkout."""
    package = Path(portway_operator.__file__).parent
    installed = package / "manifests" / "demo"
    return installed if installed.is_dir() else package.parent.parent / "manifests" / "demo"


def rewrite(ports: Mapping[int, int]) -> Callable[[Mapping[str, object]], Mapping[str, object]]:
    """Return a function that puts other ports into raw EndpointSlices and layer 4 Services, in a copy of them."""

    def adapt(raw: Mapping[str, object]) -> Mapping[str, object]:
        if raw.get("kind") == "EndpointSlice":
            return {**raw, "ports": _with_ports(raw.get("ports"), ports)}
        spec = raw.get("spec")
        if raw.get("kind") == "Service" and isinstance(spec, Mapping) and spec.get("type") == "LoadBalancer":
            return {**raw, "spec": {**spec, "ports": _with_ports(spec.get("ports"), ports)}}
        return raw

    return adapt


def _with_ports(entries: object, ports: Mapping[int, int]) -> object:
    if not isinstance(entries, list):
        return entries
    return [
        {**entry, "port": ports.get(entry["port"], entry["port"])}
        if isinstance(entry, Mapping) and isinstance(entry.get("port"), int)
        else entry
        for entry in entries
    ]


class Demo:
    """Everything that `portway demo` starts: the applications on their ports or others, and Portway in front."""

    def __init__(self, settings: ProxySettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM. Raises `OSError` when there are no free ports."""
        async with contextlib.AsyncExitStack() as stack:
            ports = await self._start_apps(stack)
            settings, ports[LISTENER] = self._find_ports()
            portway = Standalone([manifests()], settings, rewrite(ports))
            stack.enter_context(portway.heeding_signals())
            await portway.start()
            try:
                for line in self._lines(ports, portway.url("http"), portway.url("https"), portway.url("admin")):
                    self._say(line)
            finally:
                await portway.run_until_stopped()

    async def _start_apps(self, stack: contextlib.AsyncExitStack) -> dict[int, int]:
        """Start the applications and return the port that each got, by the one in the manifests."""
        sockets = claim("127.0.0.1", (port for _, port in APPS.values()))
        ports = {wanted: int(sock.getsockname()[1]) for wanted, sock in sockets.items()}
        for kind, wanted in APPS.values():
            app = await start_app(kind, sockets[wanted])
            stack.push_async_callback(app.close)
        self._say_moved(ports, "the demo's applications use")
        return ports

    def _find_ports(self) -> tuple[ProxySettings, int]:
        """Return settings with ports that are free now, and a free port for the layer 4 listener."""
        settings = self._settings
        own = [port for port in (settings.http_port, settings.https_port, settings.admin_port) if port]
        sockets = claim(settings.address, [*own, LISTENER])
        ports = {wanted: int(sock.getsockname()[1]) for wanted, sock in sockets.items()}
        for sock in sockets.values():
            sock.close()
        self._say_moved(ports, "Portway uses")
        found = msgspec.structs.replace(
            settings,
            http_port=ports.get(settings.http_port or 0, settings.http_port),
            https_port=ports.get(settings.https_port or 0, settings.https_port),
            admin_port=ports.get(settings.admin_port, settings.admin_port),
        )
        return found, ports[LISTENER]

    def _say_moved(self, ports: Mapping[int, int], who: str) -> None:
        for wanted, found in ports.items():
            if wanted != found:
                self._say(f"Port {wanted} is taken; {who} {found} instead.")

    def _lines(self, ports: Mapping[int, int], http: str, https: str, admin: str) -> Iterator[str]:
        everywhere = {"0.0.0.0", "::"}  # noqa: S104 - compared with, not listened on
        host = "127.0.0.1" if self._settings.address in everywhere else self._settings.address
        yield "\nPortway is up. Try these in another terminal:\n"
        yield f"  curl {http}/"
        yield f"  curl {http}/message"
        yield f"  curl -o portway.png {http}/images"
        yield f"  curl -H 'Host: demo.localhost' {http}/any/path"
        yield f"  curl -k {https}/"
        yield f"  printf 'hello\\n' | nc -w 1 {host} {ports[LISTENER]}"
        yield f"  curl {admin}/routes"
        yield f"\nSee it in a browser: {admin}/"
        apps = ", ".join(f"{name.partition('-')[0]} {ports[port]}" for name, (_, port) in APPS.items())
        yield f"Behind it: {apps}. What it does is in {manifests()}. Ctrl-C ends it.\n"
