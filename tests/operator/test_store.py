from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.decode import decode
from portway_operator.objects import EndpointSlice, Kind, Meta, Object, Secret, Service
from portway_operator.problems import Origin, setting_invalid
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Problem
from scenes import SHOP, documents, objects, store_of


def one(text: str, kind: Kind) -> dict[str, object]:
    [found] = [raw for raw in documents(text) if raw["kind"] == kind]
    return found


def decoded(raw: dict[str, object]) -> Object:
    found = decode(raw)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", [Kind.INGRESS, Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.INGRESS_CLASS])
def test_labels_status_and_managed_fields_are_no_change(kind: Kind) -> None:
    raw = one(SHOP, kind)
    store = store_of(decoded(raw))
    later = copy.deepcopy(raw)
    metadata = later["metadata"]
    assert isinstance(metadata, dict)
    labels = metadata.get("labels", {})
    metadata |= {
        "labels": labels | {"team": "a"},
        "managedFields": [{"manager": "kubectl"}],
        "resourceVersion": "2",
        "generation": 7,
        "uid": "u",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    later["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
    assert store.put(decoded(later)) is False


def test_the_newest_version_is_kept_even_when_it_is_no_change() -> None:
    store = ObjectStore()
    store.put(Service(Meta("shop", "web", generation=1, resource_version="10", uid="u")))
    assert store.put(Service(Meta("shop", "web", generation=2, resource_version="11", uid="u"))) is False
    kept = store.get(Kind.SERVICE, "shop", "web")
    assert kept is not None
    assert (kept.meta.generation, kept.meta.resource_version, kept.meta.uid) == (2, "11", "u")


def test_an_object_made_anew_is_a_change_because_its_age_decides() -> None:
    store = store_of(Service(Meta("shop", "web", created=1.0)))
    assert store.put(Service(Meta("shop", "web", created=2.0))) is True


def test_put_and_remove_tell_whether_anything_changed() -> None:
    store = ObjectStore()
    service = Service(Meta("shop", "web"))
    assert store.put(service) is True
    assert store.put(service) is False
    assert store.put(Service(Meta("shop", "web"), type="NodePort")) is True
    assert store.remove(Kind.SERVICE, "shop", "web") is True
    assert store.remove(Kind.SERVICE, "shop", "web") is False
    assert store.get(Kind.SERVICE, "shop", "web") is None


def test_slices_are_found_by_their_service_as_it_changes() -> None:
    store = ObjectStore()
    meta = Meta("shop", "web-1")
    store.put(EndpointSlice(meta, "web"))
    store.put(EndpointSlice(Meta("other", "web-1"), "web"))
    assert [found.meta for found in store.endpoint_slices.of("shop", "web")] == [meta]
    store.put(EndpointSlice(meta, "api"))
    assert list(store.endpoint_slices.of("shop", "web")) == []
    assert [found.meta for found in store.endpoint_slices.of("shop", "api")] == [meta]
    store.remove(Kind.ENDPOINT_SLICE, "shop", "web-1")
    assert list(store.endpoint_slices.of("shop", "api")) == []


def test_a_list_replaces_all_of_its_kind_and_nothing_else() -> None:
    store = store_of(SHOP)
    web, api = Service(Meta("shop", "web")), Service(Meta("shop", "api"))
    assert store.replace_all(Kind.SERVICE, [web, api]) is True
    assert store.replace_all(Kind.SERVICE, [api, web]) is False
    assert store.replace_all(Kind.SERVICE, [api]) is True
    assert list(store.services) == [("shop", "api")]
    assert len(store.ingresses) == 1


def test_a_list_of_one_namespace_leaves_the_others_alone() -> None:
    store = store_of(Service(Meta("a", "web")), Service(Meta("b", "web")))
    assert store.replace_all(Kind.SERVICE, [], namespace="a") is True
    assert list(store.services) == [("b", "web")]


def test_a_list_with_an_object_of_another_kind_or_namespace_is_refused() -> None:
    store = ObjectStore()
    with pytest.raises(ValueError, match="does not belong"):
        store.replace_all(Kind.INGRESS, [Service(Meta("a", "web"))])
    with pytest.raises(ValueError, match="does not belong"):
        store.replace_all(Kind.SERVICE, [Service(Meta("a", "web"))], namespace="b")


def test_what_sources_report_is_kept_for_each_until_they_report_anew() -> None:
    store = ObjectStore()
    one, two = (setting_invalid(name, "x", "") for name in ("a", "b"))
    assert store.report("b.yaml", [two]) is True
    assert store.report("a.yaml", [one]) is True
    assert store.reported == [one, two]
    assert store.report("a.yaml", [one]) is False
    assert store.report("a.yaml", []) is True
    assert store.reported == [two]
    assert store.reported[0].origin == Origin("Setting", "", "b")


NAMES = st.sampled_from(["a", "b", "c"])
SLICES = st.builds(lambda name, service: EndpointSlice(Meta("shop", name), service), NAMES, st.sampled_from(["x", "y"]))


@given(st.lists(st.one_of(SLICES, NAMES), max_size=12))
def test_the_index_of_slices_is_what_a_walk_over_all_of_them_would_find(steps: list[EndpointSlice | str]) -> None:
    store = ObjectStore()
    for step in steps:
        if isinstance(step, str):
            store.remove(Kind.ENDPOINT_SLICE, "shop", step)
        else:
            store.put(step)
    for service in ("x", "y"):
        walked = {found.meta.key for found in store.endpoint_slices.values() if found.service == service}
        assert {found.meta.key for found in store.endpoint_slices.of("shop", service)} == walked


def test_a_frozen_store_stays_as_it_was_whatever_becomes_of_the_other() -> None:
    store = store_of(SHOP)
    store.refuse(Kind.INGRESS, "shop", "web", "too good")
    frozen, known = store.frozen(), objects(SHOP)
    for one in known:
        store.remove(one.kind, *one.meta.key)
    store.report("a file", [Problem(Origin("File", "", "a"), "bad", "It is bad.", "", "")])
    assert [frozen.get(one.kind, *one.meta.key) for one in known] == known
    assert frozen.reported == []
    ingress = frozen.get(Kind.INGRESS, "shop", "web")
    assert ingress is not None
    assert frozen.refusal(ingress) == "too good"
    slices = {one.meta.key for one in frozen.endpoint_slices.of("shop", "web")}
    assert slices == {one.meta.key for one in known if isinstance(one, EndpointSlice)}


def test_what_was_read_apart_of_a_secret_that_went_meanwhile_is_not_remembered() -> None:
    secrets = [Secret(Meta("shop", name), "kubernetes.io/tls") for name in ("stays", "goes")]
    store = store_of(*secrets)
    frozen = store.frozen()
    for secret in secrets:
        frozen.certificates.read(secret)
    store.remove(Kind.SECRET, "shop", "goes")
    store.certificates.learn(frozen.certificates, store.secrets)
    assert [key for key, _ in store.certificates._read.items()] == [("shop", "stays")]


def test_every_kind_has_its_shelf() -> None:
    store = store_of(SHOP)
    for found in objects(SHOP):
        assert store.get(found.kind, *found.meta.key) == found


def test_no_key_of_a_secret_that_changed_or_went_is_remembered() -> None:
    text = """
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: cert, namespace: shop}
stringData: !certificate [shop.example]
"""
    [old], [new] = objects(text), objects(text)
    assert isinstance(old, Secret)
    assert isinstance(new, Secret)
    store = store_of(old)
    store.certificates.read(old)
    store.put(old)
    assert store.certificates._read != {}
    store.put(new)
    assert store.certificates._read == {}
    store.certificates.read(new)
    store.remove(Kind.SECRET, "shop", "cert")
    assert store.certificates._read == {}
