"""Network namespaces of the tests' own, with real servers on addresses of their own, and a network that can fail.

Nothing of the host's is touched but a pair of virtual interfaces, which goes with the namespace.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Network", "NoNetwork"]

_CLONE_NEWNET = 0x40000000
_PREFIX = "portway-"
# RFC 2544's addresses for benchmarks: no network has them.
_NETWORKS = 256
_BURST = 32 * 1024  # Bytes that a slow link takes at once.
_numbers = itertools.count()


class NoNetwork(Exception):
    """No network namespace can be made here; the message says why."""


class Network:
    """A namespace joined to ours by a pair of virtual interfaces; it takes every address of `address`.

    Sockets are made inside of it and used outside, so that servers and clients run in the tests' own loop.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            raise NoNetwork("a network namespace needs root and iproute2")
        _remove_leftovers()
        number = next(_numbers)
        self._name = f"{_PREFIX}{os.getpid()}-{number}"
        self._interface = f"pw{os.getpid()}.{number}"
        self._network = _free_network()
        try:
            self._build()
        except subprocess.CalledProcessError as error:
            self.close()
            raise NoNetwork(f"no network namespace: {error.stderr.decode().strip()}") from error

    @property
    def outer(self) -> str:
        """Our own address on it: what the tests themselves listen on."""
        return f"{self._network}.1"

    def address(self, number: int) -> str:
        """Return an address inside; `number` is 0 to 126."""
        return f"{self._network}.{128 + number}"

    def listen(self, address: str, port: int) -> socket.socket:
        """Return a listening TCP socket inside."""
        return self.made(lambda: socket.create_server((address, port)))

    def made(self, make: Callable[[], socket.socket]) -> socket.socket:
        """Return the socket that `make` makes inside."""
        # A thread that joined the namespace cannot be given back to a pool that others use.
        with ThreadPoolExecutor(1) as inside:
            return inside.submit(self._within, make).result()

    def inside(self, command: list[str]) -> list[str]:
        """Return the command that runs `command` in the namespace, in the same process."""
        return ["ip", "netns", "exec", self._name, *command]

    def close(self) -> None:
        """Remove the namespace, and with it the interfaces."""
        _ip("netns", "delete", self._name, check=False)

    # --- faults

    @contextmanager
    def failing(self, *arriving: str, leaving: tuple[str, ...] = ()) -> Iterator[None]:
        """Have what arrives inside, and what leaves, meet these rules of nft: `drop`, `tcp dport 80 drop`, ..."""
        lines = ["add table inet fault"]
        for hook, rules in (("input", arriving), ("output", leaving)):
            lines.append(f"add chain inet fault {hook} {{ type filter hook {hook} priority 0; }}")
            lines += [f"add rule inet fault {hook} {rule}" for rule in rules]
        self._nft(*lines)
        try:
            yield
        finally:
            self._nft("delete table inet fault")

    @contextmanager
    def slow(self, kilobits: int) -> Iterator[None]:
        """Let no more than `kilobits` a second through, either way."""
        shape = ["root", "tbf", "rate", f"{kilobits}kbit", "burst", str(_BURST), "latency", "400ms"]
        _run(self.inside(["tc", "qdisc", "add", "dev", "eth0", *shape]))
        _run(["tc", "qdisc", "add", "dev", self._interface, *shape])
        try:
            yield
        finally:
            _run(["tc", "qdisc", "delete", "dev", self._interface, "root"])
            _run(self.inside(["tc", "qdisc", "delete", "dev", "eth0", "root"]))

    def _nft(self, *lines: str) -> None:
        _run(self.inside(["nft", "-f", "-"]), "\n".join(lines))

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

    def _within(self, make: Callable[[], socket.socket]) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/run/netns/{self._name}").open("rb") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return make()


def _run(command: list[str], text: str = "") -> None:
    try:
        subprocess.run(command, input=text.encode(), check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoNetwork(f"{' '.join(command)}: {getattr(error, 'stderr', b'').decode().strip() or error}") from error


def _ip(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *arguments], check=check, capture_output=True)
    return done.stdout.decode()


def _free_network() -> str:
    taken = _ip("route", "show", "table", "all")
    for offset in range(_NETWORKS):
        network = f"198.18.{(os.getpid() + offset) % _NETWORKS}"
        if f"{network}." not in taken:
            return network
    raise NoNetwork("198.18.0.0/16 is in use")


def _remove_leftovers() -> None:
    """Remove the namespaces of test runs that were killed."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0]
        pid = name.removeprefix(_PREFIX).partition("-")[0]
        if name.startswith(_PREFIX) and pid.isdecimal() and not Path(f"/proc/{pid}").exists():
            _ip("netns", "delete", name, check=False)
