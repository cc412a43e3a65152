"""The ports of Portway's own Service: what is on it by hand, and where proxies listen for what we add to it.

Clients come to the Service's port; a proxy that is nobody special cannot open those below 1024, so that it listens on
another one, the Service's target port.
"""

from __future__ import annotations

import re

from portway_operator.objects import Service, ServicePort

__all__ = ["OwnPorts", "is_ours", "port_name"]

_NAME = re.compile(r"l4-(tcp|udp)-[0-9]{1,5}")
_UNPRIVILEGED = 1024
_FIRST, _LAST = 20000, 29999  # Below what kernels take for connections of their own (32768).


def port_name(transport: str, number: int) -> str:
    """Return the name of a port that we add to the Service: `l4-tcp-5432`, at most 15 characters as names must be."""
    return f"l4-{transport.lower()}-{number}"


def is_ours(port: ServicePort) -> bool:
    """Return whether we added the port to the Service."""
    return _NAME.fullmatch(port.name) is not None


class OwnPorts:
    """Chooses where proxies listen, one choice after the other from the oldest claim to the youngest.

    `service` is Portway's own; `reserved` are the ports that proxies use for themselves.
    """

    __slots__ = ("_by_hand", "_reserved", "_taken", "service")

    def __init__(self, service: Service, reserved: frozenset[int]) -> None:
        self.service = service
        self._reserved = reserved
        self._taken: set[tuple[str, int]] = set()
        self._by_hand = {(port.protocol, port.number): port for port in service.ports if not is_ours(port)}

    def target(self, transport: str, number: int) -> int:
        """Return the port that proxies listen on for port `number` of the Service."""
        if number >= _UNPRIVILEGED and self._free(transport, number):
            return number
        size = _LAST - _FIRST + 1
        tries = (_FIRST + (number + step) % size for step in range(size))
        return next(port for port in tries if self._free(transport, port))

    def in_the_way(self, transport: str, number: int, target: int) -> ServicePort | None:
        """Return the Service's port that somebody else put on it, if that leads elsewhere than to `target`."""
        port = self._by_hand.get((transport, number))
        return None if port is None or port.target == target else port

    def take(self, transport: str, target: int) -> None:
        """Leave `target` to nobody else."""
        self._taken.add((transport, target))

    def _free(self, transport: str, port: int) -> bool:
        return port not in self._reserved and (transport, port) not in self._taken
