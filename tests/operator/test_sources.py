"""Where values came from: whatever an annotation or a key changes in a policy, the policy's sources name it.

The golden cases tell: each annotation and key of theirs is taken away, and what is another then was made by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from functools import cache, partial

import msgspec
import pytest

from certs import issue
from portway_operator.annotations import SCOPES, IngressAnnotations, rows
from portway_operator.compile import Compiled, compile_snapshot, for_all
from portway_operator.compile.configuration import KEYS
from portway_operator.decode.meta import NGINX_PREFIX
from portway_operator.objects import ConfigMap, Ingress, Kind, Meta, Secret, Service
from portway_operator.problems import at
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy import sources
from portway_proxy.snapshot import (
    ListenerPolicy,
    Policy,
    Route,
    Snapshot,
    Upstream,
    UpstreamPolicy,
)
from scenes import CASES, CLASS, SERVICE, SLICE, compiled, objects, scene, store_of

PARTS = (Policy, Upstream, UpstreamPolicy, ListenerPolicy)
USUAL = {
    one.name: one.default
    for part in PARTS
    for one in msgspec.structs.fields(part)
    if one.name not in ("name", "policy", "reason", "external_name", "external_port")
}


@dataclass(frozen=True)
class Seen:
    """One place of a snapshot with the values of its fields, and where each is said to have come from."""

    values: dict[str, object]
    places: Callable[[str], tuple[str, ...]]

    @property
    def closed(self) -> bool:
        return bool(self.values.get("closed"))


def fields(part: Policy | Upstream | UpstreamPolicy | ListenerPolicy | None) -> dict[str, object]:
    return (
        {} if part is None else {name: value for name, value in msgspec.structs.asdict(part).items() if name in USUAL}
    )


def of_upstream(snapshot: Snapshot, name: str) -> Seen:
    upstream = next((one for one in snapshot.upstreams if one.name == name), None)
    if upstream is None:
        return Seen({}, lambda _: ())
    return Seen(fields(upstream) | fields(upstream.policy), partial(sources.of_upstream, snapshot, upstream))


def seen(snapshot: Snapshot) -> Iterator[tuple[object, Seen]]:
    """Yield the policy of every route and listener, and the terms of the upstream of each."""
    for host in snapshot.hosts:
        for route in host.routes:
            place = (host.name, route.path, route.match)
            yield place, Seen(fields(route.policy), partial(sources.of_route, snapshot, route))
            yield (*place, "upstream"), of_upstream(snapshot, route.upstream)
    for listener in snapshot.listeners:
        port = (listener.transport, listener.port)
        yield port, Seen(fields(listener.policy), partial(sources.of_listener, snapshot, listener))
        yield (*port, "upstream"), of_upstream(snapshot, listener.upstream)


def changed(before: Snapshot, after: Snapshot, makes: Collection[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the fields that are another way in `before`, each with where that is said to have come from.

    Of what is gone in `after`, or closed there, all fields differ: those are yielded that it `makes`.
    """
    others = dict(seen(after))
    for place, one in seen(before):
        other = others.get(place)
        known = USUAL.keys() if other is not None and not one.closed and not other.closed else makes
        theirs = {} if other is None else other.values
        for name in known:
            value = one.values.get(name, USUAL[name])
            if value != USUAL[name] and value != theirs.get(name, USUAL[name]):
                yield name, one.places(name)


def routes(snapshot: Snapshot) -> list[Route]:
    return [route for host in snapshot.hosts for route in host.routes]


def ingress(name: str, path: str, **annotations: str) -> str:
    """Return an Ingress of two hosts, of which one has TLS, with ingress-nginx's annotations."""
    lines = "".join(f"    {NGINX_PREFIX}{key.replace('_', '-')}: {value!r}\n" for key, value in annotations.items())
    backend = "backend: {service: {name: web, port: {number: 80}}}"
    rules = "".join(
        f"  - {{host: {host}, http: {{paths: [{{path: {path}, pathType: Prefix, {backend}}}]}}}}\n"
        for host in ("shop.example", f"{name}.example")
    )
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {name}
  namespace: shop
  annotations:
    portway.dev/access-log: "true"
{lines}
spec:
  ingressClassName: portway
  tls: [{{hosts: [shop.example], secretName: tls}}]
  rules:
{rules}
"""


CONFIG = """
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: portway}
data: {ssl-redirect: "false", allowlist-source-range: 10.0.0.0/8, proxy-buffer-size: 8k}
"""
CA = issue("authority")[0]
CHAIN, KEY = issue("shop.example")
MORE = (
    CLASS,
    SERVICE,
    SLICE,
    CONFIG,
    Secret(Meta("shop", "tls"), "kubernetes.io/tls", {"tls.crt": CHAIN, "tls.key": KEY}),
    Secret(Meta("shop", "ca"), "Opaque", {"ca.crt": CA}),
    ingress("redirected", "/a", ssl_redirect="true"),
    ingress("www", "/b", from_to_www_redirect="true"),
    ingress(
        "endpoints",
        "/c",
        backend_protocol="HTTPS",
        proxy_ssl_secret="ca",
        proxy_ssl_verify="on",
        proxy_ssl_verify_depth="3",
        proxy_ssl_name="a.b",
    ),
    ingress("tried", "/a", canary="true", canary_by_header="X-New", canary_by_header_pattern="a|b"),
    ingress("slash", "/d/").replace('portway.dev/access-log: "true"', "portway.dev/compatibility: ingress-nginx"),
    ingress(
        "asked",
        "/e",
        auth_tls_secret="ca",
        auth_tls_verify_client="optional",
        auth_tls_verify_depth="3",
        auth_tls_error_page="https://a.example/",
        auth_tls_pass_certificate_to_upstream="true",
        auth_tls_match_cn="CN=(ada)",
    ),
)
"""What the golden cases do not have."""

L4 = """
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, annotations: {portway.dev/tcp-ports: "5432"}}
spec: {ports: [{port: 5432}]}
"""
AUTH = {"global-auth-url": "http://web.shop.svc/verify"}
HASHED = {"upstream-hash-by": "$request_uri"}
CONFIGURED: tuple[dict[str, str], ...] = (
    {"allow-backend-server-header": "false"},
    {"block-cidrs": "10.0.0.0/8"},
    {"block-referers": "bad.example"},
    {"block-user-agents": "robot"},
    {"compatibility": "ingress-nginx"},
    {"compatibility": "ingress-nginx", "relative-redirects": "true"},
    {"compatibility": "ingress-nginx", "use-port-in-redirects": "true"},
    {"custom-http-errors": "503", "default-backend-service": "shop/web"},
    {"denylist-source-range": "10.0.0.0/8"},
    {"force-ssl-redirect": "true"},
    {"hide-headers": "X-Powered-By"},
    {"limit-conn-status-code": "429"},
    {"limit-req-status-code": "429"},
    {"proxy-add-original-uri-header": "true"},
    {"proxy-stream-timeout": "60"},
    {"ssl-redirect": "true"},
    {"whitelist-source-range": "10.0.0.0/8"},
    {"proxy-request-buffering": "on", "client-body-buffer-size": "8k"},
    {"proxy-buffering": "on", "proxy-buffers-number": "8"},
    {"limit-rate": "10", "limit-rate-after": "20"},
    {"opentelemetry-operation-name": "shop"},
    {"proxy-cookie-domain": "a.example b.example"},
    {"proxy-cookie-path": "/a /b"},
    {"proxy-http-version": "1.0"},
    {"proxy-next-upstream": "http_502"},
    {"proxy-next-upstream-timeout": "5"},
    {"service-upstream": "true"},
    HASHED | {"upstream-hash-by-subset": "true", "upstream-hash-by-subset-size": "2"},
    AUTH | {"global-auth-always-set-cookie": "true", "global-auth-request-redirect": "https://a.example/"},
    AUTH | {"global-auth-cache-key": "$cookie_a", "global-auth-cache-duration": "200 1m"},
    AUTH | {"global-auth-signin": "https://a.example/", "global-auth-signin-redirect-param": "back"},
)
"""Keys of the ConfigMap that the golden cases do not have, with what they need to have an effect."""


def configured(data: dict[str, str]) -> ObjectStore:
    plain = ingress("plain", "/plain/", limit_rps="5")
    return store_of(CLASS, SERVICE, SLICE, L4, plain, ConfigMap(Meta("portway", "settings"), data))


# Beside what it makes, an annotation may be what others need to have an effect, or a name that others are known by.
ASIDE = {("canary", "endpoints"), ("affinity", "canary"), ("tls_passthrough", "https_redirect")}


def scenes() -> Iterator[tuple[ObjectStore, CompileSettings]]:
    yield store_of(*MORE), CompileSettings(config_map="portway/settings")
    for data in CONFIGURED:
        yield configured(data), CompileSettings(config_map="portway/settings", ssl_redirect=False)
    yield from map(scene, CASES)


def annotated(store: ObjectStore) -> list[Ingress | Service]:
    owners: list[Ingress | Service] = [*store.ingresses.values(), *store.services.values()]
    return [one for one in owners if one.meta.annotations]


def effective(owner: Ingress | Service, found: Compiled) -> set[str]:
    """Return the annotations of an object that are not said to have no effect."""
    idle = {problem.origin for problem in found.problems if problem.code == "annotation_idle"}
    return {key for key in owner.meta.annotations if at(owner, f"metadata.annotations[{key}]") not in idle}


def without(owner: Ingress | Service, key: str) -> Ingress | Service:
    left = {name: value for name, value in owner.meta.annotations.items() if name != key}
    return replace(owner, meta=replace(owner.meta, annotations=left))


@dataclass
class Shown:
    """What each row of the tables was seen to make in the golden cases, and where it was not named as the source."""

    made: defaultdict[tuple[Kind, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    unnamed: list[str] = field(default_factory=list)


@cache
def shown() -> Shown:
    found = Shown()
    for store, settings in scenes():
        before = compile_snapshot(store, settings)
        for owner in annotated(store):
            index = {key: name for name, row in rows(SCOPES[owner.kind]).items() for key in row.keys}
            for key in effective(owner, before) & index.keys():
                name, makes = index[key], rows(SCOPES[owner.kind])[index[key]].makes
                store.put(without(owner, key))
                after = compile_snapshot(store, settings, before)
                for made, places in changed(before.snapshot, after.snapshot, makes):
                    if (name, made) in ASIDE:
                        continue
                    found.made[owner.kind, name].add(made)
                    if f"annotation {key}" not in [place.partition(" of ")[0] for place in places]:
                        found.unnamed.append(f"{key} of {owner.kind} {owner.meta.name} makes {made}, not {places}")
                store.put(owner)
    return found


def test_whatever_an_annotation_changes_names_it_as_its_source() -> None:
    assert shown().unnamed == []


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, scope in SCOPES.items() for name in rows(scope)])
def test_every_row_of_the_table_says_what_it_makes(kind: Kind, name: str) -> None:
    assert shown().made[kind, name] == {*rows(SCOPES[kind])[name].makes}


def makes_of(key: str) -> tuple[str, ...]:
    """Return what a key of the ConfigMap is said to make."""
    if key in KEYS:
        return (KEYS[key].makes,) if KEYS[key].makes else ()
    field = for_all.field(key) if key in for_all.KEYS else ""
    return rows(IngressAnnotations)[field].makes if field else ()


def map_of(store: ObjectStore, settings: CompileSettings) -> ConfigMap | None:
    namespace, _, name = settings.config_map.partition("/")
    return store.config_maps.get((namespace, name))


def test_whatever_a_key_of_the_configmap_changes_names_it_as_its_source() -> None:
    made, unnamed = set(), []
    for store, settings in scenes():
        if (found := map_of(store, settings)) is None:
            continue
        before = compile_snapshot(store, settings)
        for key in found.data:
            store.put(replace(found, data={other: value for other, value in found.data.items() if other != key}))
            after = compile_snapshot(store, settings)
            for name, places in changed(before.snapshot, after.snapshot, makes_of(key)):
                made.add(key)
                if f"ConfigMap {settings.config_map} key {key}" not in places:
                    unnamed.append(f"{key} makes {name}, not {places}")
        store.put(found)
    assert unnamed == []
    assert {key for key in (*KEYS, *for_all.KEYS) if makes_of(key)} - made == set()


def told(snapshot: Snapshot, name: str) -> dict[str, tuple[str, ...]]:
    """Return the places of each field of an object."""
    return {source.field: source.places for one in snapshot.sources if one.name == name for source in one.fields}


def test_what_closes_paths_is_named() -> None:
    broken = ingress("broken", "/a", allowlist_source_range="nonsense", proxy_body_size="nonsense")
    secret = ingress("secret", "/b", auth_type="basic", auth_secret="missing")
    found = compiled(CLASS, SERVICE, SLICE, broken, secret).snapshot
    assert told(found, "Ingress shop/broken")["closed"] == (f"annotation {NGINX_PREFIX}allowlist-source-range",)
    assert told(found, "Ingress shop/secret")["closed"] == (f"annotation {NGINX_PREFIX}auth-secret",)
    store, settings = configured({"block-cidrs": "nonsense"}), CompileSettings(config_map="portway/settings")
    every = compile_snapshot(store, settings).snapshot
    assert told(every, "")["closed"] == ("ConfigMap portway/settings key block-cidrs",)
    assert {route.policy.closed for route in routes(every) if route.policy} == {"config_value_invalid"}
    assert {sources.of_route(every, route, "closed") for route in routes(every)} == {told(every, "")["closed"]}


def test_what_another_ingress_says_of_a_route_names_that_one() -> None:
    main = ingress("main", "/").replace("spec:", "spec: # the oldest", 1)
    canary = ingress("tried", "/", canary="true", canary_weight="10")
    asked = ingress("asked", "/private", auth_tls_secret="ca")
    found = compiled(*MORE[:6], main, canary, asked).snapshot
    assert told(found, "Ingress shop/main") == {
        "canary": tuple(
            f"annotation {NGINX_PREFIX}{name} of Ingress shop/tried" for name in ("canary", "canary-weight")
        ),
        "certificate": (f"annotation {NGINX_PREFIX}auth-tls-secret of Ingress shop/asked",),
        "unlogged": ("annotation portway.dev/access-log",),
    }


def test_a_flag_of_the_operator_is_named_and_a_default_is_not() -> None:
    settings = CompileSettings(default_backend_service="shop/web")
    found = compiled(CLASS, SERVICE, SLICE, ingress("web", "/", custom_http_errors="503"), settings=settings).snapshot
    own = f"annotation {NGINX_PREFIX}custom-http-errors"
    assert told(found, "Ingress shop/web")["errors"] == (own, "flag --default-backend-service")
    secured = compiled(*MORE[:6], ingress("web", "/")).snapshot
    redirected = [route for route in routes(secured) if route.policy and route.policy.https_redirect]
    assert redirected
    assert {sources.of_route(secured, route, "https_redirect") for route in redirected} == {()}


def test_a_no_to_one_redirect_is_not_the_source_of_the_other() -> None:
    found = compiled(*MORE[:6], ingress("web", "/", ssl_redirect="true", force_ssl_redirect="false")).snapshot
    assert told(found, "Ingress shop/web")["https_redirect"] == (f"annotation {NGINX_PREFIX}ssl-redirect",)


def test_an_annotation_counts_over_the_key_that_says_it_for_all() -> None:
    store = configured({"denylist-source-range": "10.0.0.0/8", "block-cidrs": "10.9.0.0/16"})
    store.put(objects(ingress("own", "/own", denylist_source_range="192.0.2.0/24"))[0])
    found = compile_snapshot(store, CompileSettings(config_map="portway/settings")).snapshot
    keys = ("ConfigMap portway/settings key block-cidrs", "ConfigMap portway/settings key denylist-source-range")
    assert told(found, "")["deny"] == keys
    assert told(found, "Ingress shop/own")["deny"] == (f"annotation {NGINX_PREFIX}denylist-source-range", keys[0])


def test_objects_that_say_the_same_share_their_sources_and_what_did_not_change_stays_the_same_object() -> None:
    store = store_of(CLASS, SERVICE, SLICE, *(ingress(name, f"/{name}", limit_rps="5") for name in ("a", "b", "c")))
    before = compile_snapshot(store, CompileSettings())
    assert [one.name for one in before.snapshot.sources] == ["", *(f"Ingress shop/{name}" for name in "abc")]
    assert len({id(one.fields) for one in before.snapshot.sources[1:]}) == 1
    store.put(objects(ingress("b", "/b", limit_rpm="5"))[0])
    after = compile_snapshot(store, CompileSettings(), before)
    same = [one is other for one, other in zip(before.snapshot.sources, after.snapshot.sources, strict=True)]
    assert same[1:] == [True, False, True]
