"""The addresses of ExternalName services: resolved again and again, and never one that a tenant must not reach."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from portway_proxy.errors import AddressRefused, NameUnresolved, ProxyError
from portway_proxy.snapshot import Endpoint

if TYPE_CHECKING:
    from portway_proxy.live import LiveUpstream
    from portway_proxy.tasks import Tasks

__all__ = ["Resolver", "refused"]

_log = logging.getLogger(__name__)

_REFRESH = 10.0  # Seconds between look-ups: getaddrinfo tells no TTL, and the resolver behind it honours it.
_PATIENCE = 5.0  # Seconds for one look-up; resolv.conf's own default timeout.
# Metadata services that are not link-local: AWS over IPv6, Azure, Alibaba, Oracle.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "168.63.129.16", "100.100.100.200", "192.0.0.192")))


def refused(address: str) -> bool:
    """Return whether `address` is one that nobody may reach through an ExternalName: local, metadata, or our own."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    if parsed.is_loopback or parsed.is_link_local or parsed.is_unspecified or parsed.is_multicast:
        return True
    return parsed in _METADATA or _is_ours(str(parsed))


def _is_ours(address: str) -> bool:
    # The system lets us bind exactly the addresses that this host has.
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


class Resolver:
    """Keeps the endpoints of ExternalName upstreams equal to what their names resolve to.

    A name that no longer resolves keeps its last addresses: a DNS outage is not an outage of the service.
    """

    __slots__ = ("_followed", "_tasks")

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._followed: dict[str, tuple[str, int, asyncio.Task[None]]] = {}

    def follow(self, upstreams: Iterable[LiveUpstream]) -> None:
        """Resolve the external names among `upstreams` from now on, and no others."""
        wanted = {live.upstream.name: live for live in upstreams if live.upstream.external_name}
        for name in self._followed.keys() - wanted.keys():
            self._forget(name)
        self.update(wanted.values())

    def update(self, upstreams: Iterable[LiveUpstream]) -> None:
        """Resolve what these name now; all others stay as they are."""
        for live in upstreams:
            name, host, port = live.upstream.name, live.upstream.external_name, live.upstream.external_port
            if name in self._followed and self._followed[name][:2] != (host, port):
                self._forget(name)
            if host and name not in self._followed:
                task = self._tasks.spawn(_keep(live, host, port), f"resolve {host}")
                self._followed[name] = (host, port, task)

    def _forget(self, name: str) -> None:
        _, _, task = self._followed.pop(name)
        task.cancel()


async def _keep(live: LiveUpstream, host: str, port: int) -> None:
    while True:
        live.resolved(*await _resolve(host, port))
        await asyncio.sleep(_REFRESH)


async def _resolve(host: str, port: int) -> tuple[list[Endpoint], type[ProxyError]]:
    """Return the endpoints that `host` leads to, sorted, and the error to answer when there is none."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError) as error:
        _log.warning("%s does not resolve: %s", host, str(error) or "no answer in time")
        return [], NameUnresolved
    addresses = {str(entry[4][0]) for entry in found}
    allowed = sorted(address for address in addresses if not refused(address))
    if len(allowed) < len(addresses):
        _log.warning("%s resolves to addresses that are refused: %s", host, ", ".join(addresses.difference(allowed)))
    return [Endpoint(address, port) for address in allowed], AddressRefused
