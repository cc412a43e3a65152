"""What holds for any objects: made of few names, so that they collide as often as can be."""

from __future__ import annotations

import copy
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from portway_operator.compile import Compiled, compile_snapshot, compile_upstream
from portway_operator.decode import BadObject, decode
from portway_operator.objects import Ingress, Kind, Object
from portway_operator.settings import CompileSettings
from portway_proxy import codec
from portway_proxy.describe import describe
from portway_proxy.routing import HostRoutes, RouteTable
from portway_proxy.snapshot import Host, PathMatch, Route
from scenes import INGRESS, documents, objects, store_of

HOSTS = st.sampled_from(["", "a.example", "*.example", "A.example", "b.a.example", "bad host"])
PATHS = st.sampled_from(["/", "/a", "/a/", "/a/b", "/%61", "/a//b", "", "/é"])
TYPES = st.sampled_from(["Exact", "Prefix", "ImplementationSpecific", "Other"])
SERVICES = st.sampled_from(["web", "db", "away", "bare"])
PORTS = st.sampled_from([{"number": 80}, {"name": "http"}, {"number": 5432}, {"name": "target"}, {"number": 0}])
NAMES = st.sampled_from(["one", "two", "three"])
SPACES = st.sampled_from(["shop", "bank"])
TIMES = st.sampled_from([None, "2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"])
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "127.0.0.1", "fd00::1", "x"])
MAYBE = st.sampled_from([None, True, False])

SECRET = """
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: %s, namespace: shop}
stringData: !certificate [%s]
"""
SECRETS = objects(SECRET % ("one", "a.example")) + objects(SECRET % ("two", "'*.example'"))


def metadata(**annotations: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, object]]:
    keys = {f"portway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return st.fixed_dictionaries(
        {"name": NAMES, "namespace": SPACES},
        optional={"creationTimestamp": TIMES, "annotations": st.fixed_dictionaries({}, optional=keys)},
    )


def some(values: st.SearchStrategy[object], least: int = 0) -> st.SearchStrategy[list[object]]:
    return st.lists(values, min_size=least, max_size=3)


BACKENDS = st.fixed_dictionaries({"service": st.fixed_dictionaries({"name": SERVICES, "port": PORTS})})
RULES = st.fixed_dictionaries(
    {"host": HOSTS},
    optional={
        "http": st.fixed_dictionaries(
            {"paths": some(st.fixed_dictionaries({"path": PATHS, "pathType": TYPES, "backend": BACKENDS}))}
        )
    },
)
TLS = st.fixed_dictionaries({"hosts": some(HOSTS), "secretName": st.sampled_from(["", "one", "two", "three"])})
INGRESSES = st.fixed_dictionaries(
    {
        "apiVersion": st.just("networking.k8s.io/v1"),
        "kind": st.just("Ingress"),
        "metadata": metadata(ssl_redirect=st.sampled_from(["true", "false", "x"]), body_size=st.just("8m")),
        "spec": st.fixed_dictionaries(
            {"rules": some(RULES), "ingressClassName": st.sampled_from(["portway", "other"])},
            optional={"defaultBackend": BACKENDS, "tls": some(TLS)},
        ),
    }
)
SERVICE_PORTS = st.fixed_dictionaries(
    {
        "port": st.sampled_from([80, 5432]),
        "name": st.sampled_from(["http", "pg", "other"]),
        "targetPort": st.sampled_from([8080, "target"]),
        "protocol": st.sampled_from(["TCP", "UDP"]),
        "appProtocol": st.sampled_from([None, "http", "https", "postgresql", "grpc", "example.com/x"]),
    }
)
SERVICE_OBJECTS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("v1"),
        "kind": st.just("Service"),
        "metadata": st.builds(
            lambda meta, name: {**meta, "name": name},
            metadata(
                tcp_ports=st.sampled_from(["5432", "5432:80, 9000:http", "8080", "x"]),
                opaque_ports=st.sampled_from(["80", "http"]),
                endpoints=st.just("127.0.0.1:5000"),
                balance=st.sampled_from(["random", "x"]),
            ),
            SERVICES,
        ),
        "spec": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["ClusterIP", "LoadBalancer", "ExternalName"]),
                "clusterIP": st.sampled_from(["None", "10.96.0.1"]),
                "externalName": st.sampled_from(["api.example", "localhost", "127.0.0.1", "bad name"]),
                "loadBalancerClass": st.sampled_from([None, "portway.dev/l4"]),
                "ports": some(SERVICE_PORTS),
            }
        ),
    }
)
SLICES = st.fixed_dictionaries(
    {
        "apiVersion": st.just("discovery.k8s.io/v1"),
        "kind": st.just("EndpointSlice"),
        "metadata": st.builds(
            lambda meta, service: {**meta, "labels": {"kubernetes.io/service-name": service}}, metadata(), SERVICES
        ),
        "addressType": st.sampled_from(["IPv4", "IPv6"]),
        "ports": some(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["http", "pg", ""]), "port": st.sampled_from([None, 8080, 80])}
            )
        ),
        "endpoints": some(
            st.fixed_dictionaries(
                {
                    "addresses": some(ADDRESSES, 1),
                    "conditions": st.fixed_dictionaries({"ready": MAYBE, "serving": MAYBE, "terminating": MAYBE}),
                    "zone": st.sampled_from([None, "a", "b"]),
                }
            )
        ),
    }
)
CLASSES = st.fixed_dictionaries(
    {
        "apiVersion": st.just("networking.k8s.io/v1"),
        "kind": st.just("IngressClass"),
        "metadata": st.fixed_dictionaries({"name": st.sampled_from(["portway", "other"])}),
        "spec": st.fixed_dictionaries({"controller": st.sampled_from(["portway.dev/ingress-controller", "x"])}),
    }
)


def read(raw: dict[str, object]) -> Object | None:
    try:
        return decode(raw)
    except BadObject:
        return None


OBJECTS = st.lists(st.one_of(INGRESSES, SERVICE_OBJECTS, SLICES, CLASSES).map(read), max_size=14).map(
    # Each object once: two versions of one are a change, and the later one stands.
    lambda found: list({(one.kind, one.meta.key): one for one in [*SECRETS, *found] if one is not None}.values())
)
SETTINGS = st.builds(
    CompileSettings,
    standalone=st.booleans(),
    watch_ingress_without_class=st.booleans(),
    ingress_class_by_name=st.booleans(),
    default_backend_service=st.sampled_from(["", "shop/web", "shop/web:http", "bank/away:80", "nonsense"]),
    default_certificate=st.sampled_from(["", "shop/one", "shop/three", "nonsense"]),
    allow_external_name=st.booleans(),
    allow_catch_all=st.booleans(),
    reserved_ports=st.just(frozenset({8080})),
)


def compiled(found: list[Object], chosen: CompileSettings) -> Compiled:
    return compile_snapshot(store_of(*found), chosen)


@given(OBJECTS, SETTINGS, st.randoms(use_true_random=False))
def test_the_order_in_which_objects_come_is_of_no_consequence(
    found: list[Object], chosen: CompileSettings, random: Random
) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)
    first, second = compiled(found, chosen), compiled(shuffled, chosen)
    assert describe(first.snapshot) == describe(second.snapshot)
    assert codec.digest(first.snapshot) == codec.digest(second.snapshot)
    assert (first.by_service, first.ingresses) == (second.by_service, second.ingresses)


@given(OBJECTS, SETTINGS)
def test_what_comes_and_goes_leaves_no_trace(found: list[Object], chosen: CompileSettings) -> None:
    store = store_of(*found)
    for one in found[len(found) // 2 :]:
        store.remove(one.kind, *one.meta.key)
    assert compile_snapshot(store, chosen) == compiled(found[: len(found) // 2], chosen)


@given(OBJECTS, SETTINGS, SETTINGS, st.data())
def test_what_was_compiled_before_makes_no_difference(
    found: list[Object], chosen: CompileSettings, other: CompileSettings, data: st.DataObject
) -> None:
    store = store_of(*found)
    before = compile_snapshot(store, chosen)
    for one in data.draw(st.lists(st.sampled_from(found), max_size=3)) if found else []:
        store.remove(one.kind, *one.meta.key)
    for one in data.draw(OBJECTS):
        store.put(one)
    for now in (chosen, other):
        after = compile_snapshot(store, now, before)
        assert after == compile_snapshot(store, now)
        before = after


@given(OBJECTS, SETTINGS)
def test_every_snapshot_is_whole_and_in_order(found: list[Object], chosen: CompileSettings) -> None:
    snapshot = compiled(found, chosen).snapshot
    assert codec.decode(codec.encode(snapshot))[0] == snapshot
    assert RouteTable.build(snapshot).default == snapshot.default
    names = [upstream.name for upstream in snapshot.upstreams]
    routes = [route for host in snapshot.hosts for route in host.routes]
    used = {route.upstream for route in routes} | {listener.upstream for listener in snapshot.listeners}
    used |= {passed.upstream for passed in snapshot.passthroughs}
    assert used | ({snapshot.default.upstream} if snapshot.default else set()) == set(names)
    for keys in (
        [host.name for host in snapshot.hosts],
        names,
        [(listener.port, listener.transport) for listener in snapshot.listeners],
        [certificate.name for certificate in snapshot.certificates],
        list(snapshot.problems),
    ):
        assert keys == sorted(set(keys))  # type: ignore[type-var]  # each list is of one type
    for upstream in snapshot.upstreams:
        assert bool(upstream.reason) is not bool(upstream.endpoints or upstream.external_name)
    for problem in snapshot.problems:
        assert problem.code != "internal"
        assert str(problem).isprintable()


@given(OBJECTS, SETTINGS)
def test_any_upstream_compiled_alone_is_the_one_in_the_snapshot(found: list[Object], chosen: CompileSettings) -> None:
    store = store_of(*found)
    result = compile_snapshot(store, chosen)
    for upstream in result.snapshot.upstreams:
        assert compile_upstream(store, chosen, upstream.name) == upstream
    indexed = [name for names in result.by_service.values() for name in names]
    assert sorted(indexed) == [upstream.name for upstream in result.snapshot.upstreams]


def by_hand(host: Host, path: str) -> Route | None:
    """Match a path as the Ingress specification words it: element by element, exact ones first, then the longest."""
    exact = [route for route in host.routes if route.match is PathMatch.EXACT and route.path == path]
    elements = [part for part in path.split("/") if part]
    matching = [
        (len(rule), len(route.path), route)
        for route in host.routes
        if route.match is PathMatch.PREFIX
        and elements[: len(rule := [part for part in route.path.split("/") if part])] == rule
    ]
    longest = max(matching, key=lambda found: found[:2], default=(0, 0, None))[2]
    return exact[0] if exact else longest


@given(OBJECTS, st.sampled_from(["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/%C3%A9", "/a/b/"]))
def test_the_order_of_routes_is_the_precedence_of_the_specification(found: list[Object], path: str) -> None:
    for host in compiled(found, CompileSettings(standalone=True)).snapshot.hosts:
        assert HostRoutes(host).match(path.encode()) == by_hand(host, path)


def places(value: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


[WHOLE] = documents(INGRESS.replace("name: web,", "name: zzz,", 1).replace("shop.example", "zzz.example"))
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just([]), st.just({}), st.just([{}])
)


@settings(max_examples=200)
@given(OBJECTS, SETTINGS, st.sampled_from(places(WHOLE)[1:]), JUNK)
def test_one_bad_ingress_costs_itself_only(
    found: list[Object], chosen: CompileSettings, place: tuple[object, ...], junk: object
) -> None:
    raw: object = copy.deepcopy(WHOLE)
    inner = raw
    for key in place[:-1]:
        inner = inner[key]  # type: ignore[index]  # the place is one that the document has
    inner[place[-1]] = junk  # type: ignore[index]
    assert isinstance(raw, dict)
    bad = read(raw)
    others = [one for one in found if one.kind is not Kind.INGRESS or one.meta.name != "zzz"]
    if not isinstance(bad, Ingress) or any(rule.host != "zzz.example" for rule in bad.rules):
        return
    before, after = compiled(others, chosen).snapshot, compiled([*others, bad], chosen).snapshot
    assert [host for host in after.hosts if host.name != "zzz.example"] == list(before.hosts)
    assert (after.listeners, after.certificates, after.default) == (
        before.listeners,
        before.certificates,
        before.default,
    )
    assert set(before.upstreams) <= set(after.upstreams)
