"""Service ports to upstreams (ingress-semantics 1.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import msgspec

from portway_operator import problems
from portway_operator.addresses import name_refusal
from portway_operator.annotations import IngressAnnotations, Reading, ServiceAnnotations, read
from portway_operator.compile import for_all
from portway_operator.compile.client_certificates import own_namespace
from portway_operator.compile.endpoint_tls import endpoint_tls
from portway_operator.compile.sources import of_service
from portway_operator.compile.upstream_policies import as_asked_by, as_asked_of_all, with_policy
from portway_operator.endpoints import Found, SlicePick, find_endpoints
from portway_operator.objects import EndpointSlice, Ingress, Kind, PortRef, Secret, Service, ServicePort
from portway_operator.ports import find_port, port_names, speaks, speaks_unknown
from portway_operator.problems import Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Endpoint, Origin, Protocol, Severity, Sources, Transport, Upstream

__all__ = ["Made", "Resolved", "Upstreams", "Wanted", "parse_name"]

Key = tuple[str, str]

_NAME = re.compile(r"([^/:]+)/([^/:]+):([^/:#]+)(?:/(tcp|udp))?(?:#([^/:]+))?")
_UNSAID = IngressAnnotations()
_DIGITS = re.compile(r"[0-9]+")
_NOTHING: Final[Mapping[Wanted, Made]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A reference to a service port; `opaque` is the transport of one whose bytes are passed through (layer 4).

    `ingress` is the Ingress of the same namespace whose annotations say more of its endpoints; empty for none.
    """

    namespace: str
    service: str
    port: PortRef
    opaque: Transport | None = None
    ingress: str = ""

    @property
    def transport(self) -> Transport:
        """The transport of the port."""
        return self.opaque or Transport.TCP

    def upstream(self, port: ServicePort | None = None, protocol: Protocol = Protocol.HTTP) -> Upstream:
        """Return an upstream without endpoints.

        Its name has the port by number if the Service has it so, and the suffix `/tcp` or `/udp` at layer 4, because
        the same port may serve all three; and `#web`, because an Ingress may ask for endpoints of its own kind.
        """
        number = port.number if port is not None and port.number else self.port
        name = f"{self.namespace}/{self.service}:{number}{f'/{self.opaque}' if self.opaque else ''}"
        name += f"#{self.ingress}" if self.ingress else ""
        return Upstream(name, Protocol.OPAQUE if self.opaque else protocol)


@dataclass(frozen=True, slots=True)
class Resolved:
    """The upstream that a reference leads to, and findings about the Service and its slices."""

    upstream: Upstream
    problems: tuple[Problem, ...] = ()


def parse_name(name: str) -> Wanted | None:
    """Return the reference in the name of an upstream, or None for what is no such name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    port = int(found[3]) if _DIGITS.fullmatch(found[3]) else found[3]
    return Wanted(found[1], found[2], port, Transport(found[4]) if found[4] else None, found[5] or "")


@dataclass(frozen=True, slots=True)
class Made:
    """What was made of a reference, and all that it was made of beside the settings."""

    service: Service | None
    slices: tuple[EndpointSlice, ...]
    ingress: Ingress | None
    resolved: Resolved
    named: Key | None = None
    secret: Secret | None = None
    sources: Sources | None = None

    def of(self, service: Service | None, slices: tuple[EndpointSlice, ...], ingress: Ingress | None) -> bool:
        """Return whether it was made of these very objects; the Secret that the Ingress named is another matter."""
        return self.service is service and self.slices is slices and self.ingress is ingress


class Upstreams:
    """The upstreams that something refers to, each made once.

    `before` is what was made with equal settings: where neither the Service nor a slice changed since, it stands.
    `asked` are the references in the order in which they were asked for, as often as that was.
    """

    __slots__ = ("_annotations", "_before", "_settings", "_store", "_usual", "asked", "made")

    def __init__(self, store: ObjectStore, settings: CompileSettings, before: Mapping[Wanted, Made] = _NOTHING) -> None:
        self.made: dict[Wanted, Made] = {}
        self.asked: list[Wanted] = []
        self._store = store
        self._settings = settings
        usual = for_all.usual(settings)
        self._usual = usual if usual.balances(_UNSAID) else None
        self._before = before
        self._annotations: dict[tuple[str, str], Reading[ServiceAnnotations]] = {}

    def all(self) -> dict[str, tuple[Wanted, Made]]:
        """Return everything that was referred to so far, by the name of the upstream."""
        return {made.resolved.upstream.name: (wanted, made) for wanted, made in self.made.items()}

    def resolve(self, wanted: Wanted) -> Resolved:
        """Return the upstream of a reference; never raises."""
        self.asked.append(wanted)
        found = self.made.get(wanted)
        if found is None:
            found = self._before.get(wanted)
            if found is None or not self._stands(wanted, found):
                key, ingress = (wanted.namespace, wanted.service), self._ingress(wanted)
                service, slices = self._store.services.get(key), self._store.endpoint_slices.of(*key)
                (resolved, sources), named = self._make(wanted), self._named(ingress)
                found = Made(service, slices, ingress, resolved, named, self._secret(named), sources)
            self.made[wanted] = found
        return found.resolved

    def take(self, wanted: Wanted, made: Made) -> bool:
        """Take what was made of a reference with equal settings, and return whether it stands."""
        found = self.made.get(wanted)
        if found is not None:
            return found is made
        if not self._stands(wanted, made):
            return False
        self.made[wanted] = made
        return True

    def _stands(self, wanted: Wanted, made: Made) -> bool:
        """Return whether all that something was made of is still there, and the same."""
        key = (wanted.namespace, wanted.service)
        service, slices = self._store.services.get(key), self._store.endpoint_slices.of(*key)
        return made.of(service, slices, self._ingress(wanted)) and self._secret(made.named) is made.secret

    def _ingress(self, wanted: Wanted) -> Ingress | None:
        return self._store.ingresses.get((wanted.namespace, wanted.ingress)) if wanted.ingress else None

    def _named(self, ingress: Ingress | None) -> Key | None:
        """Return the Secret for TLS to endpoints that an Ingress names."""
        named = "" if ingress is None else read(IngressAnnotations, ingress).values.proxy_ssl_secret
        return own_namespace(named, ingress) if named and ingress is not None else None

    def _secret(self, key: Key | None) -> Secret | None:
        return None if key is None else self._store.secrets.get(key)

    def reference_problems(self, wanted: Wanted, origin: Origin) -> list[Problem]:
        """Return what is wrong with a reference made at `origin`; what the Service itself lacks is found there."""
        service = f"{wanted.namespace}/{wanted.service}"
        upstream = self.resolve(wanted).upstream
        match upstream.reason:
            case "service_missing":
                return [problems.service_missing(origin, service)]
            case "port_missing":
                known = port_names(self._store.services[wanted.namespace, wanted.service])
                return [problems.port_missing(origin, service, wanted.port, known)]
            case "opaque_port":
                return [problems.opaque_port(origin, service, _port_of(upstream))]
        return []

    def annotations(self, service: Service) -> Reading[ServiceAnnotations]:
        """Return what the annotations of a Service say."""
        key = service.meta.key
        found = self._annotations.get(key)
        if found is None:
            found = self._annotations[key] = read(ServiceAnnotations, service)
        return found

    def _make(self, wanted: Wanted) -> tuple[Resolved, Sources | None]:
        try:
            service = self._store.services.get((wanted.namespace, wanted.service))
            sources = None if service is None else of_service(service, self.annotations(service))
            return self._resolve(wanted), sources
        except Exception as error:  # noqa: BLE001 - one bad Service costs itself only; the problem names the error
            upstream = msgspec.structs.replace(wanted.upstream(), reason="internal")
            origin = Origin(Kind.SERVICE, wanted.namespace, wanted.service)
            return Resolved(upstream, (problems.internal(origin, error),)), None

    def _resolve(self, wanted: Wanted) -> Resolved:
        service = self._store.services.get((wanted.namespace, wanted.service))
        if service is None:
            return Resolved(_without(wanted.upstream(), "service_missing"))
        port = find_port(service, wanted.port, wanted.transport)
        declared = port is not None
        port = port or _undeclared(service, wanted.port)
        if port is None:
            return Resolved(_without(wanted.upstream(), "port_missing"))
        annotations = self.annotations(service).values
        upstream = wanted.upstream(port, speaks(port, annotations))
        upstream = self._as_its_service_says(upstream, service, port)
        if upstream.protocol is Protocol.OPAQUE and not wanted.opaque:
            return Resolved(_without(upstream, "opaque_port"))
        found = () if wanted.opaque else _protocol_problems(service, port)
        if (ingress := self._ingress(wanted)) is not None:
            upstream, more = self._asked(upstream, service, port, ingress)
            found = (*found, *more)
        if upstream.reason:
            return Resolved(upstream, found)
        if service.type == "ExternalName":
            return self._external(service, port, upstream, found)
        return self._with_endpoints(service, upstream, _pick(port, wanted.transport, declared=declared), found)

    def _as_its_service_says(self, upstream: Upstream, service: Service, port: ServicePort) -> Upstream:
        """Return the upstream as its Service asks for it, and else the settings for all."""
        own = self.annotations(service).values
        if service.meta.annotations:
            upstream = with_policy(upstream, own, port.number)
        if self._usual is None or upstream.protocol is Protocol.OPAQUE:
            return upstream
        return as_asked_of_all(upstream, self._usual, own, _own(service, port))

    def _asked(
        self, upstream: Upstream, service: Service, port: ServicePort, ingress: Ingress
    ) -> tuple[Upstream, tuple[Problem, ...]]:
        """Return the upstream as an Ingress asks for it, closed where that cannot be, and what is wrong with that."""
        values = read(IngressAnnotations, ingress).values
        upstream = as_asked_by(upstream, values, _own(service, port))
        tls = endpoint_tls(upstream, service, ingress, values, self._secret(self._named(ingress)))
        if not isinstance(tls, Problem):
            return msgspec.structs.replace(upstream, tls=tls), ()
        return _without(upstream, tls.code) if tls.severity is Severity.ERROR else upstream, (tls,)

    def _external(
        self, service: Service, port: ServicePort, upstream: Upstream, found: tuple[Problem, ...]
    ) -> Resolved:
        if not self._settings.allow_external_name:
            problem = problems.external_name_disabled(at(service, "spec.type"))
            return Resolved(_without(upstream, problem.code), (problem, *found))
        if not service.external_name:
            return Resolved(_without(upstream, "external_name_malformed"), found)
        if refusal := name_refusal(service.external_name):
            problem = problems.external_name_refused(at(service, "spec.externalName"), service.external_name, refusal)
            return Resolved(_without(upstream, problem.code), (problem, *found))
        number = port.target if isinstance(port.target, int) else port.number
        upstream = msgspec.structs.replace(upstream, external_name=service.external_name, external_port=number)
        return Resolved(upstream, found)

    def _with_endpoints(
        self, service: Service, upstream: Upstream, pick: SlicePick, problems_before: tuple[Problem, ...]
    ) -> Resolved:
        standalone = self._settings.standalone
        slices = self._store.endpoint_slices.of(*service.meta.key)
        found = find_endpoints(slices, pick, anywhere=standalone)
        if standalone and not slices:
            found = Found(self.annotations(service).values.endpoints, found.detail)
        refused = tuple(problems.address_refused(at(where, "endpoints"), what) for where, what in found.refused)
        if upstream.endpoints:  # The Service's own address stands in for them.
            return Resolved(upstream, problems_before)
        if found.endpoints:
            upstream = msgspec.structs.replace(upstream, endpoints=found.endpoints)
            return Resolved(upstream, problems_before + refused)
        empty = problems.no_endpoints(at(service), _port_of(upstream), found.detail)
        return Resolved(_without(upstream, "no_endpoints"), (*problems_before, *refused, empty))


def _own(service: Service, port: ServicePort) -> Endpoint | None:
    """Return the Service's own address, if it has one."""
    return Endpoint(service.cluster_ips[0], port.number) if service.cluster_ips and port.number else None


def _port_of(upstream: Upstream) -> str:
    return upstream.name.rpartition(":")[2].partition("/")[0].partition("#")[0]


def _without(upstream: Upstream, reason: str) -> Upstream:
    return msgspec.structs.replace(upstream, reason=reason)


def _undeclared(service: Service, ref: PortRef) -> ServicePort | None:
    """Return the port of a Service that need not declare any, as if it had: an ExternalName, or a headless one.

    Its number is 0 when only its endpoints know it.
    """
    if isinstance(ref, int) and (service.type == "ExternalName" or (service.headless and not service.ports)):
        return ServicePort("", ref, ref)
    if service.headless and not service.ports:
        return ServicePort(str(ref), 0, ref)
    return None


def _pick(port: ServicePort, transport: Transport, *, declared: bool) -> SlicePick:
    protocol = transport.upper()
    if not declared and port.number:
        return SlicePick(None, port.number, protocol)
    return SlicePick(port.name, port.target if isinstance(port.target, int) else port.number or None, protocol)


def _protocol_problems(service: Service, port: ServicePort) -> tuple[Problem, ...]:
    origin = at(service, f"{port.field}.appProtocol")
    return (problems.app_protocol_unknown(origin, port.app_protocol),) if speaks_unknown(port) else ()
