from __future__ import annotations

import time

from certs import issue
from portway_proxy.explain.certificates import shown_certificate
from portway_proxy.explain.explanation import Stage
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Certificate, Snapshot
from portway_proxy.tls_names import TlsNames


def made(name: str, *hosts: str, rsa: bool = False, days: int = 30) -> Certificate:
    return Certificate(name, hosts, *issue(*hosts, rsa=rsa, days=days), not_after=2_000_000_000)


def shown(name: str, *certificates: Certificate, default: str = "", now: float = 0.0) -> tuple[Stage, bool]:
    snapshot = Snapshot(certificates=certificates, default_certificate=default)
    return shown_certificate(snapshot, TlsNames(snapshot, RouteTable(None)), name, now or time.time())


def passed(stage: Stage) -> dict[str, str]:
    return {rival.name: rival.why for rival in stage.passed_over}


def test_the_certificate_of_the_very_name_comes_before_a_wildcard() -> None:
    stage, own = shown("shop.example", made("a/any", "*.example"), made("b/shop", "shop.example"))
    assert own
    assert stage.chosen.startswith("b/shop (ECDSA, until 20")
    assert (stage.why, stage.origin) == ("for shop.example itself", "Secret b/shop")
    assert "before it" in passed(stage)["a/any"]


def test_a_wildcard_is_for_one_label() -> None:
    stage, own = shown("www.example", made("a/any", "*.example"))
    assert own
    assert "*.example" in stage.why
    stage, own = shown("a.b.example", made("a/any", "*.example"))
    assert not own
    assert stage.chosen == "the proxy's own, signed by itself"
    assert "one label alone" in passed(stage)["a/any"]


def test_of_rsa_and_ecdsa_the_client_has_the_choice_and_of_one_kind_the_first_by_name() -> None:
    stage, _ = shown("shop.example", made("a/ec", "shop.example"), made("b/rsa", "shop.example", rsa=True))
    assert " or b/rsa (RSA" in stage.chosen
    assert "kind of key" in stage.why
    stage, _ = shown("shop.example", made("b/ec", "shop.example"), made("a/ec", "shop.example"))
    assert stage.chosen.startswith("a/ec")
    assert "same kind of key" in passed(stage)["b/ec"]


def test_one_that_is_not_good_now_is_shown_and_refused_by_clients() -> None:
    stage, _ = shown("shop.example", made("a/old", "shop.example", days=-3))
    assert "expired on" in stage.why
    stage, _ = shown("shop.example", made("a/new", "shop.example"), now=time.time() - 86400 * 30)
    assert "not good before" in stage.why


def test_the_default_one_is_for_names_without_their_own() -> None:
    stage, own = shown("other.example", made("a/shop", "shop.example"), default="a/shop")
    assert not own
    assert stage.why == "no certificate is for other.example: this is the default one"
    assert shown("", made("a/shop", "shop.example"), default="a/shop")[0].why.startswith("the client asks for no name")


def test_one_that_cannot_be_read_is_passed_over() -> None:
    broken = Certificate("a/broken", ("shop.example",), b"none", b"none", 0)
    stage, own = shown("shop.example", broken)
    assert not own
    assert "none of those for shop.example can be read" in stage.why
