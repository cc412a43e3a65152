"""Services that want ports of their own, and what ConfigMaps say for them, to layer 4 listeners."""

from __future__ import annotations

from portway_operator import problems
from portway_operator.compile.listener_policies import listener_policy
from portway_operator.compile.own_ports import OwnPorts
from portway_operator.compile.port_maps import claims
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.objects import ConfigMap, Service
from portway_operator.ports import PortWish, port_names, wished_ports
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Listener, Transport

__all__ = ["ListenerTable"]


class ListenerTable:
    """The listener of each port, filled by `add` and `add_map` from the oldest object to the youngest."""

    __slots__ = ("_listeners", "_own", "_settings", "_upstreams", "problems")

    def __init__(self, upstreams: Upstreams, settings: CompileSettings, own: OwnPorts | None = None) -> None:
        """`own` are the ports of the Service before the proxies; without it clients come to the proxies themselves."""
        self.problems: list[Problem] = []
        self._upstreams = upstreams
        self._settings = settings
        self._own = own
        self._listeners: dict[tuple[int, Transport], Listener] = {}

    def add(self, service: Service) -> None:
        """Take in the ports that a younger Service wants; what an older one has stays."""
        for wish in wished_ports(service, self._upstreams.annotations(service).values):
            self._take(service, wish, at(service, wish.field))

    def add_map(self, store: ObjectStore, transport: Transport, config_map: ConfigMap) -> None:
        """Take in the ports of a younger ConfigMap."""
        for claim in claims(store, transport, config_map):
            if isinstance(claim, Problem):
                self.problems.append(claim)
            else:
                self._take(claim.service, claim.wish, claim.origin)

    def listeners(self) -> tuple[Listener, ...]:
        """Return the listeners by port."""
        return tuple(self._listeners[key] for key in sorted(self._listeners))

    def _take(self, service: Service, wish: PortWish, origin: Origin) -> None:
        problem = self._refusal(wish, origin) or self._open(service, wish, origin)
        if problem is not None:
            self.problems.append(problem)

    def _refusal(self, wish: PortWish, origin: Origin) -> Problem | None:
        if wish.transport is None:
            return problems.transport_unserved(origin, wish.port)
        # The proxy's own ports are TCP.
        own = self._own is None and wish.transport is Transport.TCP
        if own and wish.external in self._settings.reserved_ports:
            return problems.port_reserved(origin, wish.external)
        return None

    def _open(self, service: Service, wish: PortWish, origin: Origin) -> Problem | None:
        transport = wish.transport or Transport.TCP
        wanted = Wanted(*service.meta.key, wish.port, transport)
        upstream = self._upstreams.resolve(wanted).upstream
        if upstream.reason == "port_missing":
            return problems.listener_port_missing(
                origin, "/".join(service.meta.key), wish.port, port_names(service, transport), transport
            )
        winner = self._listeners.get((wish.external, transport))
        if winner is not None:
            return None if winner.upstream == upstream.name else problems.port_taken(origin, winner.port, winner.origin)
        bind = 0
        if self._own is not None:
            bind = self._own.target(transport.upper(), wish.external)
            other = self._own.in_the_way(transport.upper(), wish.external, bind)
            if other is not None:
                return problems.port_on_service(origin, other, at(self._own.service))
            self._own.take(transport.upper(), bind)
        self._listeners[wish.external, transport] = Listener(
            wish.external,
            upstream.name,
            origin,
            transport,
            bind=0 if bind == wish.external else bind,
            policy=listener_policy(self._upstreams.annotations(service).values, wish, self._settings),
        )
        return None
