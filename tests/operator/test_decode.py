from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.decode import BadObject, decode
from portway_operator.objects import (
    Backend,
    ConfigMap,
    EndpointSlice,
    Ingress,
    IngressClass,
    IngressPath,
    IngressRule,
    Kind,
    Meta,
    Object,
    Secret,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from portway_proxy.snapshot import Origin, PathMatch
from scenes import CLASS, INGRESS, SERVICE, SLICE, documents

VERSIONS = {
    Kind.INGRESS: "networking.k8s.io/v1",
    Kind.INGRESS_CLASS: "networking.k8s.io/v1",
    Kind.SERVICE: "v1",
    Kind.SECRET: "v1",
    Kind.CONFIG_MAP: "v1",
    Kind.ENDPOINT_SLICE: "discovery.k8s.io/v1",
}


def raw(kind: Kind, metadata: object = None, **parts: object) -> dict[str, object]:
    return {
        "apiVersion": VERSIONS[kind],
        "kind": str(kind),
        "metadata": {"name": "web", "namespace": "shop"} if metadata is None else metadata,
        **parts,
    }


def read(kind: Kind, metadata: object = None, **parts: object) -> Object:
    found = decode(raw(kind, metadata, **parts))
    assert found is not None
    return found


def refusal(kind: Kind, metadata: object = None, **parts: object) -> BadObject:
    with pytest.raises(BadObject) as caught:
        decode(raw(kind, metadata, **parts))
    return caught.value


def test_an_ingress_is_read_with_the_place_of_each_path() -> None:
    [found] = [decode(document) for document in documents(INGRESS)]
    assert found == Ingress(
        meta=Meta("shop", "web", datetime(2024, 1, 1, tzinfo=UTC).timestamp()),
        class_name="portway",
        has_rules=True,
        rules=(
            IngressRule(
                "shop.example",
                (IngressPath("/", PathMatch.PREFIX, Backend("web", 80), "spec.rules[0].http.paths[0]"),),
                "spec.rules[0]",
            ),
        ),
    )


def test_a_class_a_service_and_a_slice_are_read() -> None:
    assert [decode(document) for text in (CLASS, SERVICE, SLICE) for document in documents(text)] == [
        IngressClass(Meta("", "portway"), "portway.dev/ingress-controller"),
        Service(Meta("shop", "web"), ports=(ServicePort("http", 80, 8080, field="spec.ports[0]"),)),
        EndpointSlice(
            Meta("shop", "web-1"),
            "web",
            (SlicePort("http", 8080),),
            (SliceEndpoint("10.0.0.1"), SliceEndpoint("10.0.0.2")),
        ),
    ]


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("networking.internal.knative.dev/v1alpha1", "Ingress"),
        ("serving.knative.dev/v1", "Service"),
        (None, "Ingress"),
        ("v1", None),
        (1, ["Service"]),
    ],
)
def test_other_kinds_are_nothing_to_us(version: object, kind: object) -> None:
    assert decode({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}}) is None


def test_a_retired_version_is_refused_with_the_one_to_use() -> None:
    with pytest.raises(BadObject) as caught:
        decode({"apiVersion": "extensions/v1beta1", "kind": "Ingress", "metadata": {"name": "web"}})
    assert str(caught.value) == (
        "Ingress default/web apiVersion: Kubernetes no longer serves Ingress of extensions/v1beta1. "
        "Convert it to networking.k8s.io/v1."
    )


def test_the_metadata_that_later_work_needs_is_kept() -> None:
    metadata = {
        "name": "web",
        "namespace": "shop",
        "uid": "1-2-3",
        "resourceVersion": "42",
        "generation": 3,
        "annotations": {"portway.dev/balance": "random", "example.com/other": "x"},
    }
    meta = read(Kind.SERVICE, metadata).meta
    assert (meta.uid, meta.resource_version, meta.generation) == ("1-2-3", "42", 3)
    assert meta.annotations == {"portway.dev/balance": "random"}


def test_an_object_without_namespace_is_in_the_default_one() -> None:
    assert read(Kind.SERVICE, {"name": "web"}).meta.key == ("default", "web")
    assert read(Kind.INGRESS_CLASS, {"name": "web", "namespace": "x"}).meta.key == ("", "web")


@pytest.mark.parametrize(
    "written", ["2024-01-01T01:00:00+01:00", "2024-01-01t00:00:00z", "2024-01-01T00:00:00.000000Z"]
)
def test_a_creation_time_is_read_in_every_spelling_of_rfc_3339(written: str) -> None:
    meta = read(Kind.SERVICE, {"name": "web", "creationTimestamp": written}).meta
    assert meta.created == datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def test_a_creation_time_may_be_a_date_that_yaml_made_of_it() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for value in (moment, moment.replace(tzinfo=None)):
        assert read(Kind.SERVICE, {"name": "web", "creationTimestamp": value}).meta.created == moment.timestamp()


def test_an_object_without_creation_time_is_the_youngest() -> None:
    old = read(Kind.SERVICE, {"name": "web", "creationTimestamp": "2099-01-01T00:00:00Z"})
    assert old.meta.precedence < read(Kind.SERVICE, {"name": "a"}).meta.precedence


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ([], "metadata"),
        ({}, "metadata.name"),
        ({"name": 5}, "metadata.name"),
        ({"name": "Web"}, "metadata.name"),
        ({"name": "a/b"}, "metadata.name"),
        ({"name": "x" * 254}, "metadata.name"),
        ({"name": "web\n"}, "metadata.name"),
        ({"name": "web", "namespace": "a.b"}, "metadata.namespace"),
        ({"name": "web", "creationTimestamp": "yesterday"}, "metadata.creationTimestamp"),
        ({"name": "web", "creationTimestamp": "2024-13-01T00:00:00Z"}, "metadata.creationTimestamp"),
        ({"name": "web", "annotations": []}, "metadata.annotations"),
        ({"name": "web", "annotations": {1: "x"}}, "metadata.annotations"),
        ({"name": "web", "annotations": {"portway.dev/a b": "x"}}, "metadata.annotations"),
        ({"name": "web", "annotations": {"portway.dev/a": True}}, "metadata.annotations[portway.dev/a]"),
    ],
)
def test_malformed_metadata_is_refused_by_field(metadata: object, field: str) -> None:
    error = refusal(Kind.SERVICE, metadata)
    assert error.field == error.origin.field == field
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("kind", "parts", "field"),
    [
        (Kind.INGRESS, {}, "spec"),
        (Kind.INGRESS, {"spec": {}}, "spec"),
        (Kind.INGRESS, {"spec": {"rules": "x"}}, "spec.rules"),
        (Kind.INGRESS, {"spec": {"rules": [{}], "tls": {}}}, "spec.tls"),
        (Kind.INGRESS, {"spec": {"rules": [{}], "ingressClassName": 3}}, "spec.ingressClassName"),
        (Kind.INGRESS_CLASS, {"spec": {"controller": 3}}, "spec.controller"),
        (Kind.SERVICE, {"spec": []}, "spec"),
        (Kind.SERVICE, {"spec": {"type": "Magic"}}, "spec.type"),
        (Kind.SERVICE, {"spec": {"ports": {}}}, "spec.ports"),
        (Kind.ENDPOINT_SLICE, {}, "addressType"),
        (Kind.ENDPOINT_SLICE, {"addressType": "FQDN"}, "addressType"),
        (Kind.ENDPOINT_SLICE, {"addressType": "IPv4", "endpoints": {}}, "endpoints"),
        (Kind.SECRET, {"type": 3}, "type"),
        (Kind.SECRET, {"type": "kubernetes.io/tls", "data": []}, "data"),
        (Kind.CONFIG_MAP, {"data": {"a": 1}}, "data['a']"),
    ],
)
def test_an_object_of_which_nothing_can_be_used_is_refused_by_field(
    kind: Kind, parts: dict[str, object], field: str
) -> None:
    error = refusal(kind, **parts)
    assert error.field == field
    assert error.origin == Origin(kind, "" if kind is Kind.INGRESS_CLASS else "shop", "web", field)


def test_the_name_of_a_malformed_object_cannot_forge_a_log_line() -> None:
    error = refusal(Kind.SERVICE, {"name": "web\nERROR all is lost"})
    assert str(error).isprintable()


def test_a_port_without_target_leads_to_the_same_number() -> None:
    found = read(Kind.SERVICE, spec={"ports": [{"port": 80}, {"port": 81, "name": "b", "targetPort": "web"}]})
    assert isinstance(found, Service)
    assert [port.target for port in found.ports] == [80, "web"]


def test_a_headless_service_is_one_without_cluster_address() -> None:
    for spec, headless in (({"clusterIP": "None"}, True), ({"clusterIP": ""}, False), ({}, False)):
        found = read(Kind.SERVICE, spec=spec)
        assert isinstance(found, Service)
        assert found.headless is headless


def test_a_slice_without_its_label_belongs_to_no_service() -> None:
    found = read(Kind.ENDPOINT_SLICE, addressType="IPv4", ports=None, endpoints=None)
    assert found == EndpointSlice(Meta("shop", "web"), "")


def test_conditions_that_are_not_said_are_those_of_kep_1669() -> None:
    found = read(
        Kind.ENDPOINT_SLICE,
        addressType="IPv4",
        endpoints=[{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "conditions": {"ready": None}}],
    )
    assert isinstance(found, EndpointSlice)
    assert {(one.ready, one.serving, one.terminating) for one in found.endpoints} == {(True, True, False)}


@pytest.mark.parametrize(
    ("hints", "zones"),
    [
        (None, ()),
        ({}, ()),
        ({"forZones": []}, ()),
        ({"forZones": [{"name": "b"}, {"name": "a"}, {"name": "b"}]}, ("a", "b")),
        ({"forNodes": [{"name": "node"}]}, ()),
    ],
)
def test_zone_hints_are_read(hints: object, zones: tuple[str, ...]) -> None:
    found = read(
        Kind.ENDPOINT_SLICE, addressType="IPv4", endpoints=[{"addresses": ["10.0.0.1"], "zone": "a", "hints": hints}]
    )
    assert isinstance(found, EndpointSlice)
    assert found.endpoints == (SliceEndpoint("10.0.0.1", zone="a", for_zones=zones),)


@pytest.mark.parametrize("hints", ["a", {"forZones": "a"}, {"forZones": ["a"]}, {"forZones": [{"name": "a\n"}]}])
def test_an_endpoint_with_malformed_hints_is_left_out(hints: object) -> None:
    found = read(
        Kind.ENDPOINT_SLICE,
        addressType="IPv4",
        endpoints=[{"addresses": ["10.0.0.1"], "hints": hints}, {"addresses": ["10.0.0.2"]}],
    )
    assert isinstance(found, EndpointSlice)
    assert [one.address for one in found.endpoints] == ["10.0.0.2"]
    assert [fault.field.startswith("endpoints[0].hints") for fault in found.faults] == [True]


def test_an_address_is_kept_in_its_shortest_form_and_a_special_one_says_so() -> None:
    found = read(
        Kind.ENDPOINT_SLICE,
        addressType="IPv6",
        endpoints=[{"addresses": ["FD00:0:0::1"], "zone": "a"}, {"addresses": ["0:0:0:0:0:0:0:1"]}],
    )
    assert isinstance(found, EndpointSlice)
    assert found.endpoints == (SliceEndpoint("fd00::1", zone="a"), SliceEndpoint("::1", special="loopback"))


def test_of_a_tls_secret_the_pair_is_read_and_of_others_everything() -> None:
    data = {"tls.crt": base64.b64encode(b"chain").decode(), "other": "!!!"}
    tls = read(Kind.SECRET, type="kubernetes.io/tls", data=data, stringData={"tls.key": "key"})
    assert tls == Secret(Meta("shop", "web"), "kubernetes.io/tls", {"tls.crt": b"chain", "tls.key": b"key"})
    good = {"auth": base64.b64encode(b"ada:hash").decode()}
    opaque = read(Kind.SECRET, type="Opaque", data=good, stringData={"ada": "hash"})
    assert opaque == Secret(Meta("shop", "web"), "Opaque", {"auth": b"ada:hash", "ada": b"hash"})


@pytest.mark.parametrize(
    "kind",
    ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "kubernetes.io/dockerconfigjson"],
)
def test_of_a_secret_that_opens_kubernetes_itself_no_byte_is_kept(kind: str) -> None:
    data = {"auth": base64.b64encode(b"ada:hash").decode(), "token": base64.b64encode(b"token").decode()}
    assert read(Kind.SECRET, type=kind, data=data) == Secret(Meta("shop", "web"), kind)


def test_base64_may_be_broken_into_lines_as_for_the_api_server() -> None:
    encoded = base64.encodebytes(b"x" * 100).decode()
    found = read(Kind.SECRET, type="kubernetes.io/tls", data={"tls.crt": encoded})
    assert isinstance(found, Secret)
    assert found.data == {"tls.crt": b"x" * 100}


def test_neither_a_secret_nor_its_faults_show_data() -> None:
    found = read(Kind.SECRET, type="kubernetes.io/tls", data={"tls.key": "hunter2!"}, stringData={"tls.crt": "hunter3"})
    assert isinstance(found, Secret)
    assert [fault.field for fault in found.faults] == ["data[tls.key]"]
    assert "hunter" not in repr(found) + str(found)


def test_a_config_map_is_read() -> None:
    assert read(Kind.CONFIG_MAP, data={"a": "1"}) == ConfigMap(Meta("shop", "web"), {"a": "1"})


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 70000),
    st.text(max_size=6),
    st.sampled_from(["/", "Prefix", "web", "shop.example", "*.example", "http", "10.0.0.1", "IPv4", "::1", "TCP"]),
)
FIELDS = st.sampled_from(
    [
        "metadata", "name", "namespace", "annotations", "labels", "spec", "rules", "host", "http", "paths", "path",
        "pathType", "backend", "service", "resource", "port", "number", "tls", "hosts", "secretName", "defaultBackend",
        "ports", "targetPort", "protocol", "type", "externalName", "addressType", "endpoints", "addresses",
        "conditions", "ready", "data", "stringData", "tls.crt", "kubernetes.io/service-name", "zone",
        "creationTimestamp",
    ]
)  # fmt: skip
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=5), max_leaves=20
)


@given(st.sampled_from(list(Kind)), st.dictionaries(FIELDS, VALUES, max_size=6), st.booleans())
def test_no_mapping_raises_anything_but_a_bad_object(kind: Kind, parts: dict[str, object], named: bool) -> None:
    whole = {**parts, **raw(kind, {"name": "web"})} if named else {**raw(kind), **parts}
    said = "fine"
    try:
        decode(whole)
    except BadObject as error:
        said = str(error)
        assert error.origin.kind == kind  # noqa: PT017 - both outcomes are fine, this is what the second one promises
    assert said.isprintable()
