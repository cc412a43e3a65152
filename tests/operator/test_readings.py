"""What Ingresses came to before is taken where, and only where, reading them again would come to the same."""

from __future__ import annotations

import pytest

from portway_operator.compile import Compiled, compile_snapshot
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from scenes import CLASS, INGRESS, SERVICE, SLICE, objects, store_of

SETTINGS = CompileSettings()
KEY = ("shop", "web")


def again(store: ObjectStore, before: Compiled, settings: CompileSettings = SETTINGS) -> Compiled:
    """Compile with what was compiled before, which must make no difference."""
    after = compile_snapshot(store, settings, before)
    assert after == compile_snapshot(store, settings)
    return after


def annotated(**said: str) -> str:
    """Return the Ingress with annotations of ingress-nginx."""
    lines = ", ".join(
        f'nginx.ingress.kubernetes.io/{name.replace("_", "-")}: "{value}"' for name, value in said.items()
    )
    return INGRESS.replace("namespace: shop,", f"namespace: shop, annotations: {{{lines}}},", 1)


def test_an_ingress_that_did_not_change_is_not_read_again() -> None:
    store = store_of(CLASS, INGRESS, SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    after = again(store, before)
    assert after.kept[KEY] is before.kept[KEY]
    routes = [route for host in before.snapshot.hosts for route in host.routes]
    assert all(one is other for host in after.snapshot.hosts for one, other in zip(host.routes, routes, strict=True))


@pytest.mark.parametrize(
    "said",
    [
        {"rewrite_target": "/x"},
        {"custom_http_errors": "404"},
        {"default_backend": "web"},
        {"ssl_passthrough": "false"},
        {"limit_rps": "5"},
    ],
    ids=str,
)
def test_what_annotations_say_of_requests_is_kept_with_it(said: dict[str, str]) -> None:
    store = store_of(CLASS, annotated(**said), SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    assert again(store, before).kept[KEY] is before.kept[KEY]


@pytest.mark.parametrize(
    "said",
    [
        {"auth_type": "basic", "auth_secret": "users"},
        {"auth_url": "https://login.example/"},
        {"auth_tls_secret": "shop/ca"},
        {"mirror_target": "https://mirror.example/"},
        {"proxy_ssl_secret": "shop/endpoints"},
        {"ssl_passthrough": "true"},
    ],
    ids=str,
)
def test_an_ingress_that_names_other_objects_or_passes_through_is_read_each_time(said: dict[str, str]) -> None:
    store = store_of(CLASS, annotated(**said), SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    assert KEY not in before.kept
    again(store, again(store, before))


def test_a_service_that_changes_has_its_ingresses_read_again() -> None:
    store = store_of(CLASS, INGRESS, SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    [service] = objects(SERVICE.replace("port: 80,", "port: 81,"))
    store.put(service)
    after = again(store, before)
    assert after.kept[KEY] is not before.kept[KEY]
    assert "port_missing" in {problem.code for problem in after.problems}


def test_other_settings_and_another_word_of_the_class_have_all_read_again() -> None:
    store = store_of(CLASS, annotated(use_regex="true"), SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    other = again(store, before, CompileSettings(force_ssl_redirect=True))
    assert other.kept[KEY] is not before.kept[KEY]
    word = "annotations: {portway.dev/compatibility: ingress-nginx}"
    [said] = objects(CLASS.replace("name: portway", f"name: portway, {word}"))
    store.put(said)
    assert again(store, before).kept[KEY] is not before.kept[KEY]


def test_an_ingress_that_proxies_reject_is_left_out_and_comes_back() -> None:
    store = store_of(CLASS, INGRESS, SERVICE, SLICE)
    before = compile_snapshot(store, SETTINGS)
    [ingress] = objects(INGRESS)
    store.refuse(ingress.kind, *ingress.meta.key, "it is odd")
    without = again(store, before)
    assert without.snapshot.hosts[0].routes == ()
    [mended] = objects(INGRESS.replace("path: /", "path: /mended"))
    store.put(mended)
    assert [route.path for route in again(store, without).snapshot.hosts[0].routes] == ["/mended"]
