"""The proxy's side of the stream, apart from sockets: its pauses, and what it reads out of a rejection."""

from __future__ import annotations

import pytest

from portway_proxy.feed import Backoff, resource_of
from portway_proxy.snapshot import Origin


def test_pauses_double_from_a_fifth_of_a_second_to_five_and_are_shortened_at_random() -> None:
    backoff = Backoff()
    for most in (0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert most / 2 <= backoff.next() <= most
    backoff.reset()
    assert backoff.next() <= 0.2
    assert len({Backoff().next() for _ in range(20)}) > 1


@pytest.mark.parametrize(
    ("origin", "resource"),
    [
        (Origin("Ingress", "shop", "web", "spec.rules[0].http.paths[1]"), "Ingress shop/web"),
        (Origin("Ingress", "shop", "web.example"), "Ingress shop/web.example"),
        (Origin("Service", "db", "postgres", "metadata.annotations[portway.dev/tcp-ports]"), "Service db/postgres"),
        (Origin("IngressClass", "", "portway"), "IngressClass portway"),
    ],
)
def test_a_rejection_that_begins_with_an_object_is_about_that(origin: Origin, resource: str) -> None:
    assert resource_of(f"{origin} refers to the upstream shop/a:80, which the snapshot does not have") == resource


@pytest.mark.parametrize(
    "error",
    ["", "TypeError: no", "the content has digest a, it was sent as b", "Ingress", "Ingress shop", "12 Ingress x "],
)
def test_a_rejection_that_names_no_object_is_about_none(error: str) -> None:
    assert resource_of(error) == ""
