"""What is found where settings for all requests differ, and ports."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from portway_operator.diff import Effect, compare
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Fallback, Origin
from portway_proxy.tuning import Setting
from short_manifests import compiled, ingress, service, tls

Raw = dict[str, Any]
LOST, TRAFFIC, HANDS, CHANGED = Effect.PROTECTION_LOST, Effect.TRAFFIC_LOST, Effect.HANDS, Effect.CHANGED
SHOP = [ingress()]

LESS = {
    "more peers say who clients are": (
        {"use_forwarded_headers": True, "proxy_real_ip_cidr": ("10.0.0.0/8",)},
        {"use_forwarded_headers": True, "proxy_real_ip_cidr": ("0.0.0.0/0",)},
        "trust_widened",
    ),
    "peers say the scheme and host too": (
        {"enable_real_ip": True, "proxy_real_ip_cidr": ("10.0.0.0/8",)},
        {"use_forwarded_headers": True, "proxy_real_ip_cidr": ("10.0.0.0/8",)},
        "trust_widened",
    ),
    "an older TLS is spoken": ({"ssl_protocols": ("TLSv1.3",)}, {}, "tls_protocols"),
    "HSTS goes": ({}, {"hsts": False}, "tls_hsts"),
    "strangers are served": ({"ssl_reject_handshake": True}, {}, "tls_strangers"),
    "more paths stay without TLS": (
        {},
        {"no_tls_redirect_locations": ("/.well-known/acme-challenge", "/plain")},
        "tls_plain_paths",
    ),
    "clients are not blocked any more": ({"block_user_agents": ("~*bot",)}, {}, "block_lost"),
    "networks for all go": ({"allow_source_range": ("10.0.0.0/8",)}, {}, "networks_lost"),
    "bodies may be larger for all": (
        {"tuning": (Setting("proxy-body-size", 1000),)},
        {"tuning": (Setting("proxy-body-size", 2000),)},
        "body_size_grown",
    ),
}


@pytest.mark.parametrize(("old", "new", "kind"), LESS.values(), ids=LESS)
def test_what_guards_all_requests_is_lost_one_way_and_not_the_other(old: Raw, new: Raw, kind: str) -> None:
    sides = [compiled(*SHOP, settings=CompileSettings(**one)) for one in (old, new)]
    assert kind in {one.kind for one in compare(*sides).of(LOST)}
    assert compare(*sides[::-1]).of(LOST) == ()


def test_a_setting_that_guards_nothing_has_changed() -> None:
    sides = [compiled(*SHOP, settings=CompileSettings(tuning=(Setting("keep-alive", value),))) for value in (5, 6)]
    [found] = compare(*sides).findings
    assert (found.effect, found.was, found.now) == (CHANGED, "keep-alive = 5", "keep-alive = 6")


def kinds(old: list[Raw], new: list[Raw]) -> list[tuple[Effect, str]]:
    return [(one.effect, one.kind) for one in compare(compiled(*old), compiled(*new)).findings]


def test_a_port_that_another_namespace_gets_changes_hands() -> None:
    old, new = service(tcp_ports="5432"), service(namespace="bank", tcp_ports="5432")
    assert kinds([*SHOP, old], [*SHOP, new]) == [(HANDS, "port_moved")]


def test_a_port_for_another_service_of_the_namespace_has_changed() -> None:
    old, new = service(tcp_ports="5432"), service("api", tcp_ports="5432")
    assert kinds([*SHOP, old], [*SHOP, new]) == [(CHANGED, "port_moved")]


def test_a_port_that_is_served_otherwise_has_changed() -> None:
    old, new = service(tcp_ports="5432"), service(tcp_ports="5432", max_clients="5")
    assert kinds([*SHOP, old], [*SHOP, new]) == [(CHANGED, "port_changed")]


def test_tls_that_does_not_pass_through_any_more_is_lost_traffic() -> None:
    secret = tls("cert", "one")
    passing = [ingress(secret="cert", tls_passthrough="true"), secret]
    assert kinds(passing, [ingress(secret="cert"), secret]) == [(TRAFFIC, "passthrough_closed")]


def test_tls_that_passes_through_to_another_namespace_changes_hands() -> None:
    old = ingress(secret="cert", tls_passthrough="true")
    new = ingress(secret="cert", tls_passthrough="true", namespace="bank")
    found = kinds([old], [new])
    assert (HANDS, "passthrough_moved") in found
    assert LOST not in {effect for effect, _ in found}


def test_a_canary_of_a_guarded_path_is_guarded_as_well() -> None:
    main = ingress(allow_source_range="10.0.0.0/8")
    canary = ingress("api:/", name="canary", nginx={"canary": "true", "canary-weight": "10"})
    assert kinds([main], [main, canary]) == [(CHANGED, "policy_changed")]


def test_what_traces_say_has_changed() -> None:
    traced = CompileSettings(enable_opentelemetry=True, otlp_collector_host="collector.example")
    [found] = compare(compiled(*SHOP), compiled(*SHOP, settings=traced)).findings
    assert (found.effect, found.kind) == (CHANGED, "observing_changed")


def test_a_fallback_that_is_opened_is_past_all_guards() -> None:
    plain = compiled(*SHOP)
    origin = Origin("IngressClass", "", "portway", "metadata.annotations")
    web, bank = (msgspec.structs.replace(plain, fallback=Fallback(name, origin)) for name in ("shop/db:1", "bank/db:1"))
    found = [compare(*sides).findings for sides in ((plain, web), (web, plain), (web, bank), (web, web))]
    assert [[(one.effect, one.kind) for one in some] for some in found] == [
        [(LOST, "fallback_opened")],
        [(TRAFFIC, "fallback_closed")],
        [(HANDS, "fallback_moved")],
        [],
    ]
