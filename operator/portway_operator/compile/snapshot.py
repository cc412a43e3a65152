"""Puts a snapshot together out of what Ingresses and Services ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import msgspec

from portway_operator import problems
from portway_operator.annotations import IngressAnnotations, read
from portway_operator.compile import for_all
from portway_operator.compile.access import Access, AccessReader
from portway_operator.compile.auth_services import AuthServices
from portway_operator.compile.by_url import ByUrl
from portway_operator.compile.classes import Classes
from portway_operator.compile.client_certificates import ClientCertificates
from portway_operator.compile.compatibility import Modes
from portway_operator.compile.configuration import configured
from portway_operator.compile.custom_fields import CustomFields
from portway_operator.compile.defaults import choose_default, default_service
from portway_operator.compile.endpoint_tls import EndpointSecrets, keyrings
from portway_operator.compile.error_pages import PageMakers
from portway_operator.compile.fallbacks import choose_fallback
from portway_operator.compile.field_maps import named_by_settings
from portway_operator.compile.listeners import ListenerTable
from portway_operator.compile.mirrors import read_mirror
from portway_operator.compile.named import Named
from portway_operator.compile.observing import observing_of, observing_problems
from portway_operator.compile.own_ports import OwnPorts
from portway_operator.compile.passthroughs import PassthroughTable
from portway_operator.compile.policies import Elsewhere, Policies
from portway_operator.compile.port_maps import PortMap, port_maps
from portway_operator.compile.readings import Kept, Readings, refers
from portway_operator.compile.routes import HostTable, IngressRoutes, RouteReader
from portway_operator.compile.sources import SourceReader, join_sources, lent, place_of
from portway_operator.compile.tls import TlsClaims, TlsTable, find_key_pair, pair_problems, read_tls, secret_problem
from portway_operator.compile.tls_terms import terms_of
from portway_operator.compile.trust import trust_of, trust_problems
from portway_operator.compile.upstreams import Made, Upstreams, Wanted, parse_name
from portway_operator.decode.meta import PREFIX
from portway_operator.objects import Ingress, IngressClass, Kind, Object, Service
from portway_operator.ports import is_l4
from portway_operator.problems import Origin, Problem, at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Balance, Host, Listener, Policy, Route, SharedKey, Snapshot, Sources, Upstream

__all__ = ["Compiled", "compile_snapshot", "compile_upstream"]

T = TypeVar("T", bound=Object)
R = TypeVar("R")
Key = tuple[str, str]

_SECRET = re.compile(r"([a-z0-9-]+)/([a-z0-9.-]+)")
_SETTING = "default-ssl-certificate"
_ENDPOINTS = f"{PREFIX}endpoints"


@dataclass(frozen=True, slots=True)
class Compiled:
    """The result of a compile.

    `by_service` says which upstreams to make anew (`compile_upstream`) when the endpoints of a Service (namespace and
    name) change. `ingresses` are the namespaces and names of those that are ours. `owned` are the objects whose status
    is ours to write, as they were: our Ingresses and the Services of our load balancer class. `made`, `kept`, `classes`
    and `settings` are for the next compile. `named` are the Secrets and ConfigMaps that annotations
    and our own ConfigMap name, whether they exist or not.
    """

    snapshot: Snapshot
    by_service: Mapping[Key, tuple[str, ...]]
    ingresses: frozenset[Key]
    owned: tuple[Ingress | Service, ...] = ()
    made: Mapping[Wanted, Made] = field(default_factory=dict, repr=False, compare=False)
    kept: Mapping[Key, Kept] = field(default_factory=dict, repr=False, compare=False)
    classes: tuple[IngressClass, ...] = field(default=(), repr=False, compare=False)
    settings: CompileSettings = field(default_factory=CompileSettings, repr=False, compare=False)
    named: frozenset[Named] = frozenset()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return everything that was found wrong, in order of where it was found."""
        return self.snapshot.problems


def compile_snapshot(store: ObjectStore, settings: CompileSettings, before: Compiled | None = None) -> Compiled:
    """Return what the objects in `store` amount to; 5,000 Ingresses and 10,000 Services take about 0.25 s.

    What they came to `before` makes that a third: upstreams, and routes of Ingresses, whose objects did not change are
    taken from there.
    """
    return _Compile(store, settings, before).run()


def compile_upstream(store: ObjectStore, settings: CompileSettings, name: str) -> Upstream | None:
    """Return the upstream of that name as `compile_snapshot` would make it now.

    None when there can be no such upstream any more, because its Service changed: a whole compile will tell.
    """
    wanted = parse_name(name)
    if wanted is None:
        return None
    upstream = Upstreams(store, configured(store, settings)[0]).resolve(wanted).upstream
    return upstream if upstream.name == name else None


class _Compile:
    """One compile; the methods add to `problems`."""

    def __init__(self, store: ObjectStore, settings: CompileSettings, before: Compiled | None) -> None:
        self.problems: list[Problem] = store.reported
        self._store = store
        self._flags = settings
        self._settings, found = configured(store, settings)
        self.problems += [*found, *trust_problems(self._settings), *observing_problems(self._settings)]
        self._classes = Classes(store.ingress_classes.values(), self._settings)
        self._before = before if before is not None and before.settings == self._settings else None
        made = self._before.made if self._before is not None else {}
        self._modes = Modes(self._classes, self._settings)
        self._sources = SourceReader(self._settings, found)
        self._access = AccessReader(store)
        self._clients = ClientCertificates(store, self._settings.today)
        self._keys = EndpointSecrets()
        self._fields = CustomFields(store, self._settings)
        self._upstreams = Upstreams(store, self._settings, made)
        self._by_url = ByUrl(self._upstreams)
        self._services = AuthServices(self._by_url, self._settings)
        self._pages = PageMakers(store, self._upstreams, self._settings)
        self._passed = PassthroughTable(self._upstreams)

    def run(self) -> Compiled:
        """Return the result."""
        ingresses = self._ours()
        tls = TlsTable(self._store, self._settings.today)
        for ingress in (one for one in ingresses if one.tls):
            tls.add(self._guard(ingress, partial(read_tls, self._store, today=self._settings.today), TlsClaims()))
        readings = self._readings(tls.hosts)
        routes = partial(self._routes, readings=readings, secured=tls.hosts)
        found = [self._guard(one, routes, IngressRoutes(one)) for one in ingresses]
        hosts = HostTable(self._upstreams)
        for one in found:
            hosts.add(one)
        default = choose_default(found, self._settings, self.problems)
        default = default or default_service(self._store, self._upstreams, self._settings, self.problems)
        certificate = self._default_certificate()
        served = self._clients.spread(hosts.hosts(default))
        snapshot = Snapshot(
            hosts=served,
            authorities=self._clients.authorities(served, default),
            default=default,
            listeners=self._listeners(),
            certificates=tls.certificates(certificate),
            default_certificate="/".join(certificate or ()),
            trust=trust_of(self._settings),
            request_ids=self._settings.generate_request_id,
            signed=self._settings.server_tokens,
            observing=observing_of(self._settings, _policies(served, default)),
            settings=self._settings.tuning,
            tls=terms_of(self._settings, hosts.ciphers),
            credentials=self._access.credentials(),
            passthroughs=self._passed.passthroughs(),
            fallback=choose_fallback(self._classes.own(), self._upstreams, self.problems),
        )
        self.problems += [*tls.problems, *hosts.problems, *self._passed.problems, *self._malformed()]
        self.problems += self._modes.problems()
        sources: list[Sources | None] = [one.sources for one in found]
        sources += [*lent(sources, (*hosts.loans, *self._clients.loans)), self._sources.for_all()]
        return self._finish(snapshot, sources, ingresses, readings.made)

    def _finish(
        self,
        snapshot: Snapshot,
        sources: list[Sources | None],
        ingresses: Iterable[Ingress],
        kept: Mapping[Key, Kept],
    ) -> Compiled:
        """Add what routes and listeners refer to."""
        used = {route.upstream for host in snapshot.hosts for route in host.routes} | _other_upstreams(snapshot)
        used |= {listener.upstream for listener in snapshot.listeners}
        used |= {passed.upstream for passed in snapshot.passthroughs}
        if snapshot.default is not None:
            used.add(snapshot.default.upstream)
        if snapshot.fallback is not None:
            used.add(snapshot.fallback.upstream)
        resolved = self._upstreams.all()
        by_service: dict[Key, tuple[str, ...]] = {}
        upstreams = []
        for name in sorted(used):
            if (outside := self._by_url.outside.get(name)) is not None:
                upstreams.append(outside)
                continue
            wanted, made = resolved[name]
            upstreams.append(made.resolved.upstream)
            sources.append(made.sources)
            self.problems += made.resolved.problems
            service = (wanted.namespace, wanted.service)
            by_service[service] = (*by_service.get(service, ()), name)
        owned: list[Ingress | Service] = [*ingresses, *filter(is_l4, self._store.services.values())]
        sticky = any(one.policy is not None and one.policy.affinity is not None for one in upstreams)
        key = SharedKey(self._settings.affinity_key) if sticky and self._settings.affinity_key else None
        return Compiled(
            msgspec.structs.replace(
                snapshot,
                upstreams=tuple(upstreams),
                problems=tuple(sorted(set(self.problems))),
                affinity_key=key,
                keyrings=keyrings(self._store, upstreams),
                sources=join_sources(sources),
            ),
            by_service,
            frozenset(ingress.meta.key for ingress in ingresses),
            tuple(one for one in owned if not self._store.refusal(one)),
            self._upstreams.made,
            kept,
            tuple(self._store.ingress_classes.values()),
            self._settings,
            self._named(),
        )

    def _guard(self, owner: T, work: Callable[[T], R], otherwise: R) -> R:
        """Return `work(owner)`; what goes wrong in it costs that object only."""
        try:
            return work(owner)
        except Exception as error:  # noqa: BLE001 - the problem names the error; there is no log in a pure compile
            self.problems.append(problems.internal(at(owner), error))
            return otherwise

    def _ours(self) -> list[Ingress]:
        """Return our Ingresses, the oldest first."""
        classes = self._classes
        ours = []
        for ingress in self._store.ingresses.values():
            if classes.ours(ingress):
                ours.append(ingress)
                self.problems += [problems.fault(ingress, fault) for fault in ingress.faults]
            elif (problem := classes.problem(ingress)) is not None:
                self.problems.append(problem)
        return sorted(ours, key=lambda ingress: ingress.meta.precedence)

    def _refused(self, owner: Object) -> bool:
        """Return whether proxies could not apply what the object asks for, and say so."""
        reason = self._store.refusal(owner)
        if reason:
            self.problems.append(problems.rejected_by_proxy(at(owner), reason))
        return bool(reason)

    def _readings(self, secured: AbstractSet[str]) -> Readings:
        """Return what is known of Ingresses when these hosts have TLS."""
        before = self._before
        if before is None or before.classes != tuple(self._store.ingress_classes.values()):
            return Readings(self._upstreams, secured)
        return Readings(self._upstreams, secured, before.kept)

    def _routes(self, ingress: Ingress, readings: Readings, secured: AbstractSet[str]) -> IngressRoutes:
        if self._refused(ingress):
            return IngressRoutes(ingress)
        kept = readings.find(ingress)
        if kept is not None:
            self.problems += kept.problems
            self._passed.terminate(ingress)
            return kept.found
        noted, asked = len(self.problems), len(self._upstreams.asked)
        found = self._read(ingress, secured)
        if not refers(found.values, self._settings) and ingress.meta.key not in self._passed.asked:
            readings.keep(found, tuple(self.problems[noted:]), tuple(self._upstreams.asked[asked:]))
        return found

    def _read(self, ingress: Ingress, secured: AbstractSet[str]) -> IngressRoutes:
        reading = read(IngressAnnotations, ingress, for_all.usual(self._settings))
        access = self._access.read(ingress, reading.values).beside(self._services.read(ingress, reading.values))
        access = access.beside(self._clients.read(ingress, reading.values))
        answer, told, closed = self._fields.read(ingress, reading.values)
        access = access.beside(closed).telling(told)
        self._keys.read(ingress, reading.values)
        self.problems += (*reading.problems, *access.problems)
        errors, unmade = self._pages.read(ingress, reading.values)
        mirror, uncopied = read_mirror(ingress, reading.values, self._by_url)
        self.problems += (*unmade, *uncopied)
        policies = Policies(
            reading, self._settings, access, "/".join(ingress.meta.key), Elsewhere(errors, mirror, answer)
        )
        passed = self._passed.read(ingress, reading.values.tls_passthrough, guarded=policies.guarded)
        found = RouteReader(ingress, self._upstreams, policies, secured, passed).read()
        self.problems += found.problems
        sources = self._sources.of_ingress(ingress, reading, self._more(found, access))
        nginx = self._modes.nginx(ingress, reading.values)
        return replace(found, nginx=nginx, sources=sources) if nginx or sources is not None else found

    def _more(self, found: IngressRoutes, access: Access) -> Iterator[tuple[str, str]]:
        """Yield fields of policies, and where they came from, that no table tells: what closes paths, and slashes."""
        for problem in access.problems:
            if problem.code == access.closed:
                yield "closed", place_of(problem)
        place = self._modes.place(found.ingress, found.values)
        if place and any(len(route.path) > 1 and route.path.endswith("/") for _, route in found.routes):
            yield "redirect", place

    def _named(self) -> frozenset[Named]:
        """Return the Secrets and ConfigMaps that were named."""
        secrets = self._access.secrets | self._clients.secrets | self._keys.secrets
        maps = self._fields.named | named_by_settings(self._store, self._flags)
        return frozenset((Kind.SECRET, *key) for key in secrets) | {(Kind.CONFIG_MAP, *key) for key in maps}

    def _listeners(self) -> tuple[Listener, ...]:
        table = ListenerTable(self._upstreams, self._settings, self._own_ports())
        for one in self._claimants():
            if isinstance(one, PortMap):
                self._guard(one.config_map, partial(table.add_map, self._store, one.transport), None)
                continue
            if not self._refused(one):
                self._guard(one, table.add, None)
            self._guard(one, self._check_annotations, None)
        self.problems += table.problems
        return table.listeners()

    def _claimants(self) -> list[Service | PortMap]:
        """Return what may ask for ports, the oldest first."""
        found: list[Service | PortMap] = [
            service for service in self._store.services.values() if service.meta.annotations or is_l4(service)
        ]
        for each in port_maps(self._store, self._settings):
            if isinstance(each, PortMap):
                found.append(each)
            else:
                self.problems.append(each)
        return sorted(found, key=lambda one: one.meta.precedence)

    def _own_ports(self) -> OwnPorts | None:
        """Return the ports of the Service before the proxies, if there is one to expose listeners on."""
        named = self._settings.expose_service
        if not named:
            return None
        namespace, _, name = named.partition("/")
        own = self._store.services.get((namespace, name))
        if own is None:
            self.problems.append(problems.service_missing(Origin("Setting", "", "expose-service"), named))
            return None
        return OwnPorts(own, self._settings.reserved_ports)

    def _check_annotations(self, service: Service) -> None:
        reading = self._upstreams.annotations(service)
        self.problems += reading.problems
        if reading.values.hash_on is not None and reading.values.balance not in (None, Balance.HASH):
            origin = at(service, f"metadata.annotations[{PREFIX}hash-on]")
            self.problems.append(problems.annotation_idle(origin, [f"{PREFIX}balance: {Balance.HASH}"]))
        if _ENDPOINTS not in service.meta.annotations:
            return
        origin = at(service, f"metadata.annotations[{_ENDPOINTS}]")
        if not self._settings.standalone:
            # A tenant could point it anywhere.
            self.problems.append(problems.endpoints_ignored(origin, "It is for `portway run` alone."))
        elif self._store.endpoint_slices.of(*service.meta.key):
            self.problems.append(problems.endpoints_ignored(origin, "The Service has EndpointSlices."))

    def _default_certificate(self) -> Key | None:
        """Return the Secret that the settings name, if it has a certificate."""
        named = self._settings.default_certificate
        found = _SECRET.fullmatch(named)
        if not named:
            return None
        if found is None:
            self.problems.append(problems.setting_invalid(_SETTING, named, "Write it as namespace/name."))
            return None
        key = (found[1], found[2])
        origin = Origin("Setting", "", _SETTING)
        problem = secret_problem(self._store, key, origin)
        if find_key_pair(self._store, key, self._settings.today) is None and problem is not None:
            self.problems.append(msgspec.structs.replace(problem, done="A self-signed certificate is served instead."))
            return None
        self.problems += [problem] if problem is not None else []
        self.problems += pair_problems(self._store, key, origin, self._settings.today)
        return key

    def _malformed(self) -> Iterator[Problem]:
        """Yield what was left out of Services and EndpointSlices when they were read."""
        for service in self._store.services.values():
            for fault in service.faults:
                yield problems.fault(service, fault)
        for found in self._store.endpoint_slices.values():
            for fault in found.faults:
                yield problems.fault(found, fault)


def _policies(hosts: Iterable[Host], default: Route | None) -> Iterator[Policy]:
    routes = (route for host in hosts for route in host.routes)
    for route in routes if default is None else (*routes, default):
        if route.policy is not None:
            yield route.policy


def _other_upstreams(snapshot: Snapshot) -> set[str]:
    """Return the upstreams of what policies refer to."""
    policies = _policies(snapshot.hosts, snapshot.default)
    return {name for policy in policies for name in policy.upstreams if name}
