"""What becomes of an object that a proxy blames."""

from __future__ import annotations

import pytest

from portway_operator.compile import compile_snapshot
from portway_operator.objects import Kind
from portway_operator.publish import Rejection
from portway_operator.rejections import exclude_rejected
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.describe import describe
from portway_proxy.history import Cause
from scenes import CLASS, INGRESS, SERVICE, SHOP, SLICE, codes, objects, store_of

SETTINGS = CompileSettings()
OTHER = INGRESS.replace("name: web, namespace", "name: other, namespace").replace("shop.example", "other.example")
L4 = SERVICE.replace(
    "metadata: {name: web, namespace: shop}",
    "metadata: {name: web, namespace: shop, annotations: {portway.dev/tcp-ports: '5432:80'}}",
)


def reject(store: ObjectStore, resource: str, error: str = "it is odd.") -> int:
    """Have a proxy blame an object, and return how often a compile was asked for."""
    changes: list[Cause] = []
    exclude_rejected(store, changes.append)(Rejection("proxy-0", "a" * 32, error, resource))
    assert all((str(one).partition(" by ")[0], one.manager) == (f"{resource} refused", "proxy-0") for one in changes)
    return len(changes)


def lines(store: ObjectStore) -> list[str]:
    snapshot = compile_snapshot(store, SETTINGS).snapshot
    return [line for line in describe(snapshot).splitlines() if "example" in line and "->" in line]


def test_the_ingress_is_left_out_and_all_others_stay() -> None:
    store = store_of(SHOP, OTHER)
    before = lines(store)
    assert reject(store, "Ingress shop/web") == 1
    after = compile_snapshot(store, SETTINGS)
    assert codes(after) == ["rejected_by_proxy"]
    assert "A proxy cannot apply what it asks for: it is odd." in str(after.problems[0])
    assert [line for line in before if "other.example" in line] == lines(store)


def test_it_stays_ours_so_that_its_status_is_left_alone() -> None:
    store = store_of(SHOP)
    reject(store, "Ingress shop/web")
    assert ("shop", "web") in compile_snapshot(store, SETTINGS).ingresses


def test_blamed_twice_it_is_left_out_once() -> None:
    store = store_of(SHOP)
    assert reject(store, "Ingress shop/web") == 1
    assert reject(store, "Ingress shop/web") == 0


def test_once_it_changes_or_is_made_anew_it_is_tried_again() -> None:
    store = store_of(SHOP)
    reject(store, "Ingress shop/web")
    [same] = objects(INGRESS)
    store.put(same)
    assert codes(compile_snapshot(store, SETTINGS)) == ["rejected_by_proxy"]
    [changed] = objects(INGRESS.replace("shop.example", "new.example"))
    store.put(changed)
    assert codes(compile_snapshot(store, SETTINGS)) == []
    reject(store, "Ingress shop/web")
    store.remove(Kind.INGRESS, "shop", "web")
    store.put(changed)
    assert codes(compile_snapshot(store, SETTINGS)) == []


def test_a_service_loses_its_listeners_and_keeps_its_routes() -> None:
    store = store_of(CLASS, INGRESS, L4, SLICE)
    assert compile_snapshot(store, SETTINGS).snapshot.listeners
    assert reject(store, "Service shop/web") == 1
    after = compile_snapshot(store, SETTINGS)
    assert codes(after) == ["rejected_by_proxy"]
    assert after.snapshot.listeners == ()
    assert after.snapshot.hosts


@pytest.mark.parametrize(
    "resource",
    [
        "",
        "Ingress",
        "Ingress shop",
        "Ingress shop/missing",
        "Secret shop/web",
        "ingress shop/web",
        "Ingress shop/web x",
    ],
)
def test_what_names_none_of_our_objects_changes_nothing(resource: str) -> None:
    store = store_of(SHOP)
    assert reject(store, resource) == 0
    assert codes(compile_snapshot(store, SETTINGS)) == []


def test_what_a_proxy_says_is_not_repeated_at_any_length() -> None:
    store = store_of(SHOP)
    reject(store, "Ingress shop/web", "x" * 4000)
    [problem] = compile_snapshot(store, SETTINGS).problems
    assert len(problem.found) < 400
