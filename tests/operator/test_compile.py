from __future__ import annotations

import msgspec
import pytest

from portway_operator.annotations import IngressAnnotations, Reading, read
from portway_operator.compile import compile_snapshot, compile_upstream
from portway_operator.compile import snapshot as module
from portway_operator.compile.upstreams import Upstreams, Wanted, parse_name
from portway_operator.objects import (
    Backend,
    EndpointSlice,
    Ingress,
    IngressPath,
    IngressRule,
    IngressTls,
    Kind,
    Meta,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from portway_operator.problems import Origin, setting_invalid
from portway_operator.settings import CompileSettings
from portway_proxy import codec
from portway_proxy.describe import describe
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import PathMatch, Protocol, Transport, Upstream
from scenes import CLASS, SHOP, codes, compiled, described, objects, store_of

STANDALONE = CompileSettings(standalone=True)


def ingress(name: str, host: str = "", path: str = "/", service: str = "web", created: float = 1.0) -> Ingress:
    found = IngressPath(path, PathMatch.PREFIX, Backend(service, 80), "spec.rules[0].http.paths[0]")
    rule = IngressRule(host or f"{name}.example", (found,), "spec.rules[0]")
    return Ingress(Meta("shop", name, created), has_rules=True, rules=(rule,))


SERVICE = Service(Meta("shop", "web"), ports=(ServicePort("http", 80, 8080),))
SLICE = EndpointSlice(Meta("shop", "web-1"), "web", (SlicePort("http", 8080),), (SliceEndpoint("10.0.0.1"),))


def test_a_shop_compiles_to_one_route_and_no_problem() -> None:
    route = "shop.example prefix / => shop/web:80 -> 10.0.0.1:8080 10.0.0.2:8080"
    assert described(SHOP) == [f"{route}  <- Ingress shop/web spec.rules[0].http.paths[0]"]


def test_nothing_compiles_to_nothing() -> None:
    assert described(CLASS) == []


def test_what_is_ours_is_told_with_the_snapshot() -> None:
    assert compiled(SHOP).ingresses == {("shop", "web")}


def test_the_upstreams_of_a_service_are_found_by_its_name() -> None:
    both = Service(
        Meta("shop", "web", annotations={"portway.dev/tcp-ports": "9000:http"}), ports=(ServicePort("http", 80, 8080),)
    )
    result = compiled(both, SLICE, ingress("a"), ingress("b", service="gone"), settings=STANDALONE)
    assert result.by_service == {
        ("shop", "web"): ("shop/web:80", "shop/web:80/tcp"),
        ("shop", "gone"): ("shop/gone:80",),
    }
    names = [upstream.name for upstream in result.snapshot.upstreams]
    assert names == sorted(name for of_service in result.by_service.values() for name in of_service)


def test_the_same_port_at_both_layers_is_two_upstreams() -> None:
    both = Service(
        Meta("shop", "web", annotations={"portway.dev/tcp-ports": "9000:http"}), ports=(ServicePort("http", 80, 8080),)
    )
    http, tcp = compiled(both, SLICE, ingress("a"), settings=STANDALONE).snapshot.upstreams
    assert (http.protocol, tcp.protocol) == (Protocol.HTTP, Protocol.OPAQUE)
    assert http.endpoints == tcp.endpoints != ()


def test_an_upstream_that_lost_to_an_older_ingress_is_left_out() -> None:
    young = ingress("young", host="old.example", service="unused", created=2.0)
    result = compiled(ingress("old"), young, SERVICE, SLICE, settings=STANDALONE)
    assert [upstream.name for upstream in result.snapshot.upstreams] == ["shop/web:80"]


def test_one_upstream_compiled_alone_is_the_one_in_the_snapshot() -> None:
    store = store_of(SHOP)
    result = compile_snapshot(store, CompileSettings())
    for upstream in result.snapshot.upstreams:
        assert compile_upstream(store, CompileSettings(), upstream.name) == upstream
    store.put(EndpointSlice(Meta("shop", "web-1"), "web", (SlicePort("http", 8080),), (SliceEndpoint("10.0.0.9"),)))
    [new] = compile_snapshot(store, CompileSettings()).snapshot.upstreams
    assert compile_upstream(store, CompileSettings(), "shop/web:80") == new


def test_an_upstream_whose_service_changed_its_port_is_not_compiled_alone() -> None:
    store = store_of(SHOP)
    assert compile_upstream(store, CompileSettings(), "shop/web:http") is None
    assert compile_upstream(store, CompileSettings(), "no name of an upstream") is None


@pytest.mark.parametrize(
    "wanted",
    [
        Wanted("shop", "web", 80),
        Wanted("shop", "web", "http"),
        Wanted("shop", "web", 80, Transport.TCP),
        Wanted("shop", "web", "http", Transport.UDP),
    ],
)
def test_the_name_of_an_upstream_says_what_it_is(wanted: Wanted) -> None:
    assert parse_name(wanted.upstream().name) == wanted


def test_a_reference_by_name_and_by_number_is_one_upstream() -> None:
    by_name = IngressPath("/b", PathMatch.PREFIX, Backend("web", "http"), "spec.rules[0].http.paths[1]")
    first = ingress("a")
    [rule] = first.rules
    assert rule.paths is not None
    rule = IngressRule(rule.host, (*rule.paths, by_name), rule.field)
    result = compiled(Ingress(first.meta, has_rules=True, rules=(rule,)), SERVICE, SLICE, settings=STANDALONE)
    assert [upstream.name for upstream in result.snapshot.upstreams] == ["shop/web:80"]


def test_what_goes_wrong_inside_costs_that_ingress_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(
        scope: type[IngressAnnotations], owner: Ingress, usual: IngressAnnotations
    ) -> Reading[IngressAnnotations]:
        if owner.meta.name == "bad":
            raise ZeroDivisionError
        return read(scope, owner, usual)

    monkeypatch.setattr(module, "read", failing)
    result = compiled(ingress("bad"), ingress("good"), SERVICE, SLICE, settings=STANDALONE)
    routes = {host.name: len(host.routes) for host in result.snapshot.hosts}
    assert routes == {"bad.example": 0, "good.example": 1}
    [problem] = result.problems
    assert (problem.code, problem.origin) == ("internal", Origin("Ingress", "shop", "bad"))
    assert "ZeroDivisionError" in problem.found


def test_what_goes_wrong_in_a_service_costs_that_service_only(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Upstreams._resolve

    def failing(self: Upstreams, wanted: Wanted) -> object:
        if wanted.service == "bad":
            raise ZeroDivisionError
        return original(self, wanted)

    monkeypatch.setattr(Upstreams, "_resolve", failing)
    result = compiled(ingress("a", service="bad"), ingress("b"), SERVICE, SLICE, settings=STANDALONE)
    assert [(upstream.name, upstream.reason) for upstream in result.snapshot.upstreams] == [
        ("shop/bad:80", "internal"),
        ("shop/web:80", ""),
    ]
    assert codes(result) == ["internal"]


def test_a_problem_that_a_source_reported_is_part_of_the_snapshot() -> None:
    store = store_of(SHOP)
    problem = setting_invalid("x", "y", "Mend it.")
    store.report("shop.yaml", [problem])
    assert compile_snapshot(store, CompileSettings()).problems == (problem,)


def test_each_finding_is_said_once() -> None:
    found = compiled(ingress("a"), ingress("b"), Service(SERVICE.meta, ports=SERVICE.ports), settings=STANDALONE)
    assert codes(found) == ["no_endpoints"]


def test_an_unused_service_without_endpoints_is_no_problem() -> None:
    assert codes(compiled(SERVICE, settings=STANDALONE)) == []


def test_no_text_ever_shows_a_key() -> None:
    certificate = """
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: cert, namespace: shop}
stringData: !certificate [a.example]
"""
    secured = Ingress(
        Meta("shop", "a"),
        has_rules=True,
        rules=ingress("a").rules,
        tls=(IngressTls(("a.example",), "cert", "spec.tls[0]"),),
    )
    [secret] = objects(certificate)
    result = compiled(secured, SERVICE, SLICE, secret, settings=STANDALONE)
    [found] = result.snapshot.certificates
    body = found.key.splitlines()[1].decode()
    assert found.hosts == ("a.example",)
    assert body not in repr(result) + describe(result.snapshot) + repr(secret)


def test_a_certificate_appears_as_soon_as_its_secret_does() -> None:
    tls = (IngressTls(("a.example",), "cert", "spec.tls[0]"),)
    store = store_of(SERVICE, SLICE, Ingress(Meta("shop", "a"), has_rules=True, rules=ingress("a").rules, tls=tls))
    before = compile_snapshot(store, STANDALONE)
    assert (before.snapshot.certificates, codes(before)) == ((), ["secret_missing"])
    [route] = before.snapshot.hosts[0].routes
    assert route.policy is not None
    assert route.policy.https_redirect
    store.put(
        objects(
            "{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: cert, namespace: shop},"
            " stringData: !certificate [a.example]}"
        )[0]
    )
    after = compile_snapshot(store, STANDALONE)
    assert [found.hosts for found in after.snapshot.certificates] == [("a.example",)]
    assert codes(after) == []
    store.remove(Kind.SECRET, "shop", "cert")
    assert compile_snapshot(store, STANDALONE).snapshot == before.snapshot


def test_a_usable_certificate_of_a_younger_ingress_is_served_when_the_older_has_none() -> None:
    def claiming(name: str, secret: str, created: float) -> Ingress:
        tls = (IngressTls(("a.example",), secret, "spec.tls[0]"),)
        return Ingress(Meta("shop", name, created), has_rules=True, rules=ingress("a").rules, tls=tls)

    [secret] = objects(
        "{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: good, namespace: shop},"
        " stringData: !certificate [a.example]}"
    )
    result = compiled(claiming("old", "gone", 1.0), claiming("young", "good", 2.0), secret, settings=STANDALONE)
    assert [found.name for found in result.snapshot.certificates] == ["shop/good"]
    assert "secret_missing" in codes(result)


def test_redirects_can_be_off_for_all_and_on_for_one() -> None:
    tls = (IngressTls((), "", "spec.tls[0]"),)
    plain = Ingress(Meta("shop", "a"), has_rules=True, rules=ingress("a").rules, tls=tls)
    asked = Ingress(
        Meta("shop", "b", annotations={"portway.dev/ssl-redirect": "true"}),
        has_rules=True,
        rules=ingress("b").rules,
        tls=tls,
    )
    settings = CompileSettings(standalone=True, ssl_redirect=False)
    hosts = compiled(plain, asked, SERVICE, SLICE, settings=settings).snapshot.hosts
    policies = {host.name: host.routes[0].policy for host in hosts}
    assert policies["a.example"] is None
    assert policies["b.example"] is not None
    assert policies["b.example"].https_redirect


def test_a_snapshot_survives_its_journey_and_its_table_finds_the_routes() -> None:
    snapshot = compiled(SHOP).snapshot
    sent, digest = codec.decode(codec.encode(snapshot))
    assert (sent, digest) == (snapshot, codec.digest(snapshot))
    assert RouteTable.build(sent).match(b"shop.example", b"/any").upstream == "shop/web:80"


def test_an_unchanged_cluster_has_an_unchanged_digest() -> None:
    assert codec.digest(compiled(SHOP).snapshot) == codec.digest(compiled(SHOP).snapshot)


def test_a_route_to_a_service_without_endpoints_has_an_upstream_with_the_reason() -> None:
    [upstream] = compiled(ingress("a"), SERVICE, settings=STANDALONE).snapshot.upstreams
    assert upstream == Upstream("shop/web:80", reason="no_endpoints")
    assert msgspec.structs.replace(upstream, reason="") == Upstream("shop/web:80")
