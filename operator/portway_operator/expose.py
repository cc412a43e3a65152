"""Keeps the ports of Portway's own Service equal to the listeners; the leader alone does.

Server-side apply owns our ports and no others: what somebody put on the Service by hand stays, and so do the nodePorts
that the API server chose.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from portway_operator.api_objects import ApiObjects, ApiUnavailable, Raw
from portway_operator.compile.own_ports import is_ours, port_name
from portway_operator.objects import Kind, Service, ServicePort
from portway_operator.sources.backoff import Backoff
from portway_operator.sources.resources import RESOURCES
from portway_operator.status import Leads
from portway_proxy.snapshot import Listener

__all__ = ["MANAGER", "Expose"]

_log = logging.getLogger(__name__)

MANAGER: Final = "portway-listeners"
"""The field manager that owns our ports."""

_EVERY: Final = 60.0  # Seconds between two looks without a cause: what others changed is mended.

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, order=True)
class _Port:
    """A port of the Service: clients come to `number`, proxies listen on `target`."""

    transport: str
    number: int
    target: int

    @classmethod
    def of(cls, listener: Listener) -> _Port:
        """Return the port that a listener needs."""
        return cls(str(listener.transport).upper(), listener.port, listener.bind or listener.port)

    @property
    def key(self) -> tuple[str, int]:
        """What a Service has only once."""
        return self.transport, self.number

    def body(self) -> Raw:
        """Return the port as it is applied."""
        return {
            "name": port_name(self.transport, self.number),
            "protocol": self.transport,
            "port": self.number,
            "targetPort": self.target,
        }


class Expose:
    """Writes the ports once some proxy listens on them; `show` and `acknowledge` say what and when."""

    def __init__(self, api: ApiObjects, leads: Leads, services: Mapping[Key, Service], own: Key) -> None:
        self._api = api
        self._leads = leads
        self._services = services
        self._own = own
        self._wake = asyncio.Event()
        self._backoff = Backoff()
        self._wanted: tuple[_Port, ...] | None = None
        self._next: tuple[int, tuple[_Port, ...]] = (0, ())
        self._said = ""

    def show(self, listeners: Iterable[Listener], version: int) -> None:
        """Take note of the listeners of a published version."""
        ports = tuple(sorted(_Port.of(listener) for listener in listeners))
        if ports != self._next[1] or not self._next[0]:
            self._next = version, ports
        self._wake.set()  # The Service itself may have changed.

    def acknowledge(self, version: int) -> None:
        """Take note that some proxy serves `version`."""
        since, ports = self._next
        if since and version >= since and ports != self._wanted:
            self._wanted = ports
            self._wake.set()

    def poke(self) -> None:
        """Look soon."""
        self._wake.set()

    async def run(self) -> None:
        """Look and write until cancelled."""
        pause = _EVERY
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            pause = _EVERY
            if self._wanted is None or not self._leads.leading:
                continue
            try:
                await self._look(self._wanted)
            except ApiUnavailable as trouble:
                pause = self._backoff.next()
                if str(trouble) != self._said:
                    _log.warning("the ports of Service %s/%s are written later: %s", *self._own, trouble)
                self._said = str(trouble)

    async def _look(self, wanted: tuple[_Port, ...]) -> None:
        """Write the ports if the Service has others."""
        service = self._services.get(self._own)
        if service is None:
            raise ApiUnavailable("there is no such Service")
        by_hand = {(port.protocol, port.number) for port in service.ports if not is_ours(port)}
        # What leads to the right place already is left to whoever wrote it.
        ours = tuple(port for port in wanted if port.key not in by_hand)
        if ours != tuple(sorted(_port(port) for port in service.ports if is_ours(port))):
            namespace, name = self._own
            await self._api.apply(f"{RESOURCES[Kind.SERVICE].path(namespace)}/{name}", _body(service, ours), MANAGER)
            numbers = ", ".join(f"{port.number}/{port.transport}" for port in ours) or "none"
            _log.info("Service %s/%s now has the layer 4 ports %s", namespace, name, numbers)
        self._said = ""


def _port(port: ServicePort) -> _Port:
    return _Port(port.protocol, port.number, port.target if isinstance(port.target, int) else 0)


def _body(service: Service, ports: Iterable[_Port]) -> Raw:
    """Return what is applied; the uid keeps it from making a Service that was deleted meanwhile."""
    namespace, name = service.meta.key
    meta = {"namespace": namespace, "name": name, "uid": service.meta.uid}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [port.body() for port in ports]}}
