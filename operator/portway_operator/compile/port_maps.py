"""ingress-nginx's ConfigMaps of layer 4 ports, read as they are: `5432: shop/db:pg` opens port 5432 for that Service.

The value may end in `:PROXY` (clients' connections begin with a PROXY header), `:PROXY:PROXY` (and so do ours to the
endpoint) or `::PROXY` (only ours do), in TCP only (nginx-compatibility 2.8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from portway_operator import problems
from portway_operator.objects import ConfigMap, Meta, Service
from portway_operator.ports import PortWish
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import ProxyVersion, Transport

__all__ = ["Claim", "PortMap", "claims", "port_maps"]

_VALUE = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+):([a-z0-9-]+)((?::(?:PROXY)?){0,2})", re.IGNORECASE)
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A port that an entry wants for a Service, and where that is said."""

    service: Service
    wish: PortWish
    origin: Origin


@dataclass(frozen=True, slots=True)
class PortMap:
    """One of the ConfigMaps, and the transport of its ports."""

    config_map: ConfigMap
    transport: Transport

    @property
    def meta(self) -> Meta:
        """Return whose claims these are."""
        return self.config_map.meta


def claims(store: ObjectStore, transport: Transport, config_map: ConfigMap) -> Iterator[Claim | Problem]:
    """Yield what each entry wants, or what is wrong with it."""
    for key, value in sorted(config_map.data.items()):
        origin = at(config_map, f"data[{key}]")
        found = _VALUE.fullmatch(value.strip())
        if not _PORT.fullmatch(key) or int(key) > 65535 or found is None:
            yield problems.port_map_invalid(origin, value)
        elif transport is Transport.UDP and found[4]:
            yield problems.port_map_invalid(origin, value, "UDP has no PROXY header.")
        elif (service := store.services.get((found[1], found[2]))) is None:
            yield problems.listener_service_missing(origin, f"{found[1]}/{found[2]}")
        else:
            yield Claim(service, _wish(int(key), found[3], transport, found[4]), origin)


def _wish(external: int, port: str, transport: Transport, marks: str) -> PortWish:
    accept, announce = (*(mark.upper() == "PROXY" for mark in marks.split(":")[1:]), False, False)[:2]
    # nginx sends the first version.
    version = ProxyVersion.V1 if announce else None
    return PortWish(external, int(port) if port.isdecimal() else port, transport, accept=accept, announce=version)


def port_maps(store: ObjectStore, settings: CompileSettings) -> Iterator[PortMap | Problem]:
    """Yield the ConfigMaps that the settings name; a Problem for one that is missing."""
    for named, transport in ((settings.tcp_services, Transport.TCP), (settings.udp_services, Transport.UDP)):
        if not named:
            continue
        namespace, _, name = named.partition("/")
        found = store.config_maps.get((namespace, name))
        if found is None:
            yield problems.port_map_missing(Origin("ConfigMap", namespace, name), transport)
        else:
            yield PortMap(found, transport)
