"""What serves the requests that no host and no path matches (ingress-semantics 1.4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from portway_operator import problems
from portway_operator.compile.routes import IngressRoutes
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.ports import ports_of
from portway_operator.problems import Problem
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Origin, PathMatch, Route

__all__ = ["choose_default", "default_service", "first_port"]

_SERVICE = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+)(?::([a-z0-9-]+))?")
_SETTING = "default-backend-service"
_USUAL_PORT = 80


def choose_default(found: Sequence[IngressRoutes], settings: CompileSettings, noted: list[Problem]) -> Route | None:
    """Return the default of the oldest Ingress that has nothing else, or else of the oldest that has one.

    `found` is ordered from the oldest to the youngest.
    """
    claims = [(one.ingress, one.default) for one in found if one.default is not None]
    alone = [route for ingress, route in claims if not ingress.has_rules]
    if not settings.allow_catch_all:
        noted += [problems.catch_all_refused(route.origin) for route in alone]
        return None
    noted += [problems.default_taken(route.origin, alone[0].origin) for route in alone[1:]]
    candidates = alone or [route for _, route in claims]
    return candidates[0] if candidates else None


def first_port(store: ObjectStore, namespace: str, name: str) -> Wanted:
    """Return a reference to the first port of a Service, or to the usual one where it has none."""
    service = store.services.get((namespace, name))
    ports = () if service is None else ports_of(service)
    return Wanted(namespace, name, ports[0].number if ports else _USUAL_PORT)


def default_service(
    store: ObjectStore, upstreams: Upstreams, settings: CompileSettings, noted: list[Problem]
) -> Route | None:
    """Return the route to the Service that the settings name; without a port, to the first one that it has."""
    if not settings.default_backend_service:
        return None
    found = _SERVICE.fullmatch(settings.default_backend_service)
    if found is None:
        remedy = "Write it as namespace/name or namespace/name:port."
        noted.append(problems.setting_invalid(_SETTING, settings.default_backend_service, remedy))
        return None
    namespace, name, port = found[1], found[2], found[3]
    if port is None:
        wanted = first_port(store, namespace, name)
    else:
        wanted = Wanted(namespace, name, int(port) if port.isdecimal() else port)
    origin = Origin("Setting", "", _SETTING)
    noted += upstreams.reference_problems(wanted, origin)
    return Route("/", PathMatch.PREFIX, upstreams.resolve(wanted).upstream.name, origin)
