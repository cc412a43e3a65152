from __future__ import annotations

import copy

import msgspec
import pytest

from portway_proxy import snapshot as contract
from portway_proxy.snapshot import Certificate, Endpoint, Listener, Origin, Problem, Route, Severity, Snapshot
from snapshots import FULL, KEY

STRUCTS = [
    kind
    for name in contract.__all__
    if isinstance(kind := getattr(contract, name), type) and issubclass(kind, msgspec.Struct)
]


@pytest.mark.parametrize("kind", STRUCTS)
def test_every_part_is_frozen_and_compares_by_content(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__struct_config__.eq


def test_a_part_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        FULL.hosts = ()  # type: ignore[misc]
    with pytest.raises(AttributeError):
        FULL.upstreams[0].endpoints = ()  # type: ignore[misc]


def test_equal_content_is_equal_and_hashable() -> None:
    again = copy.deepcopy(FULL)
    assert again == FULL
    assert hash(again) == hash(FULL)
    assert msgspec.structs.replace(FULL, default_certificate="") != FULL


def test_an_empty_snapshot_serves_nothing() -> None:
    empty = Snapshot()
    assert (empty.hosts, empty.default, empty.upstreams, empty.listeners) == ((), None, (), ())
    assert (empty.certificates, empty.default_certificate, empty.problems) == ((), "", ())


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("Ingress", "shop", "web", "spec.rules[0]"), "Ingress shop/web spec.rules[0]"),
        (Origin("Ingress", "shop", "web"), "Ingress shop/web"),
        (Origin("IngressClass", "", "portway", "spec.controller"), "IngressClass portway spec.controller"),
    ],
)
def test_an_origin_reads_as_a_person_would_name_it(origin: Origin, text: str) -> None:
    assert str(origin) == text


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [
        (Endpoint("10.0.0.1", 80), "10.0.0.1:80"),
        (Endpoint("fd00::1", 8080, "zone-a"), "[fd00::1]:8080"),
    ],
)
def test_an_endpoint_reads_as_address_and_port(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


def test_a_problem_is_one_line_with_what_to_do() -> None:
    problem = Problem(Origin("Ingress", "shop", "web", "spec"), "code", "It is so.", "This was done.", "Do that.")
    assert str(problem) == "Ingress shop/web spec: It is so. This was done. Do that."
    assert problem.severity is Severity.ERROR


def test_parts_that_are_kept_sorted_have_an_order() -> None:
    assert min(FULL.problems) is FULL.problems[0]
    assert min([Endpoint("b", 1), Endpoint("a", 2), Endpoint("a", 1)]) == Endpoint("a", 1)
    origin = Origin("Service", "a", "b")
    assert min(Listener(2, "a", origin), Listener(1, "b", origin)).port == 1


def test_no_text_form_of_a_certificate_shows_its_key() -> None:
    certificate = FULL.certificates[0]
    assert certificate.key == KEY
    for text in (repr(certificate), str(certificate), f"{certificate}", repr(FULL), str([certificate])):
        assert "secret" not in text
        assert "PRIVATE" not in text
    assert str(FULL.affinity_key) == "SharedKey(...)"
    assert repr(certificate) == (
        "Certificate(name='shop/tls', hosts=('*.shop.example', 'shop.example'), not_after=1900000000)"
    )


def test_a_route_without_policy_has_none() -> None:
    route = Route("/", contract.PathMatch.PREFIX, "a/b:80", Origin("Ingress", "a", "b"))
    assert route.policy is None
    assert Certificate("a/b", (), b"", b"", 0) != Certificate("a/b", (), b"", b"x", 0)
