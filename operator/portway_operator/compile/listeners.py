"""Services that want ports of their own to layer 4 listeners."""

from __future__ import annotations

from portway_operator import problems
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.objects import Service
from portway_operator.ports import PortWish, tcp_port_names, wished_ports
from portway_operator.problems import Problem, at
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Listener

__all__ = ["ListenerTable"]


class ListenerTable:
    """The listener of each port, filled by `add` from the oldest Service to the youngest."""

    __slots__ = ("_listeners", "_settings", "_upstreams", "problems")

    def __init__(self, upstreams: Upstreams, settings: CompileSettings) -> None:
        self.problems: list[Problem] = []
        self._upstreams = upstreams
        self._settings = settings
        self._listeners: dict[int, Listener] = {}

    def add(self, service: Service) -> None:
        """Take in the ports that a younger Service wants; what an older one has stays."""
        for wish in wished_ports(service, self._upstreams.annotations(service).values):
            problem = self._refusal(service, wish) or self._open(service, wish)
            if problem is not None:
                self.problems.append(problem)

    def listeners(self) -> tuple[Listener, ...]:
        """Return the listeners by port."""
        return tuple(self._listeners[port] for port in sorted(self._listeners))

    def _refusal(self, service: Service, wish: PortWish) -> Problem | None:
        origin = at(service, wish.field)
        if wish.transport != "TCP":
            return problems.udp_unserved(origin, wish.port, wish.transport)
        if wish.external in self._settings.reserved_ports:
            return problems.port_reserved(origin, wish.external)
        return None

    def _open(self, service: Service, wish: PortWish) -> Problem | None:
        origin = at(service, wish.field)
        wanted = Wanted(*service.meta.key, wish.port, opaque=True)
        upstream = self._upstreams.resolve(wanted).upstream
        if upstream.reason == "port_missing":
            return problems.listener_port_missing(
                origin, "/".join(service.meta.key), wish.port, tcp_port_names(service)
            )
        winner = self._listeners.setdefault(wish.external, Listener(wish.external, upstream.name, origin))
        return None if winner.upstream == upstream.name else problems.port_taken(origin, winner.port, winner.origin)
