"""A network namespace of the tests' own, where real servers answer on the addresses of pods."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["NoPodNetwork", "Pod", "PodNetwork"]

_CLONE_NEWNET = 0x40000000
_PREFIX = "portway-"
# RFC 2544's addresses for benchmarks: no network has them.
_NETWORKS = 256


class NoPodNetwork(Exception):
    """No network namespace can be made here; the message says why."""


class PodNetwork:
    """A namespace joined to ours by a pair of virtual interfaces; it takes every address of `address`.

    Sockets are made inside of it and used outside, so that the servers run in the tests' own loop.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NoPodNetwork("a network namespace for pods needs root and iproute2")
        _remove_leftovers()
        self._name = f"{_PREFIX}{os.getpid()}"
        self._interface = f"pw{os.getpid()}"
        self._network = _free_network()
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self.close()
            raise NoPodNetwork(f"no network namespace: {error.stderr.decode().strip()}") from error

    @property
    def outer(self) -> str:
        """Our own address on it: what the tests themselves listen on."""
        return f"{self._network}.1"

    def address(self, number: int) -> str:
        """Return the address of a pod; `number` is 0 to 126."""
        return f"{self._network}.{128 + number}"

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a listening TCP socket on a pod's address."""
        # A thread that joined the namespace cannot be given back to a pool that others use.
        with ThreadPoolExecutor(1) as inside:
            return inside.submit(self._within, lambda: socket.create_server((address, port))).result()

    def inside(self, command: list[str]) -> list[str]:
        """Return the command that runs `command` in the namespace, in the same process."""
        return ["ip", "netns", "exec", self._name, *command]

    def close(self) -> None:
        """Remove the namespace, and with it the interfaces."""
        _ip("netns", "delete", self._name, check=False)

    def _build(self) -> None:
        outer, inner, name = f"{self._network}.1/24", f"{self._network}.2/24", self._name
        _ip("netns", "add", name)
        _ip("link", "add", self._interface, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("addr", "add", outer, "dev", self._interface)
        _ip("link", "set", self._interface, "up")
        _ip("-n", name, "addr", "add", inner, "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "local", f"{self._network}.128/25", "dev", "lo")

    def _within(self, action: Callable[[], socket.socket]) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self._name}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return action()


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], check=check, capture_output=True)
    return done.stdout.decode()


def _free_network() -> str:
    taken = _ip("route", "show", "table", "all")
    for offset in range(_NETWORKS):
        network = f"198.18.{(os.getpid() + offset) % _NETWORKS}"
        if f"{network}." not in taken:
            return network
    raise NoPodNetwork("198.18.0.0/16 is in use")


def _remove_leftovers() -> None:
    """Remove the namespaces of test runs that were killed."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        pid = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _ip("netns", "delete", name, check=False)


class Pod:
    """A small HTTP server that answers every request with its name."""

    def __init__(self, network: PodNetwork, number: int, name: str, port: int = 8080) -> None:
        self.name = name
        self.address = network.address(number)
        self.port = port
        self.served = 0
        self._socket = network.listen(self.address, port)
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to answer."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def stop(self) -> None:
        """Close the port and every connection."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = self.name.encode()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.served += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                await writer.drain()
        writer.close()
