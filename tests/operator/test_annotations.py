from __future__ import annotations

from dataclasses import dataclass

import pytest

from portway_operator.annotations import (
    SCOPES,
    IngressAnnotations,
    Invalid,
    Reading,
    ServiceAnnotations,
    read,
    row,
    rows,
)
from portway_operator.compile.policies import Policies
from portway_operator.objects import Ingress, Kind, Meta, Service
from portway_operator.parse import boolean, size
from portway_operator.settings import CompileSettings
from portway_proxy.snapshot import Policy


@dataclass(frozen=True, slots=True)
class Guarded:
    """A scope with a security setting, as a test of the mechanism."""

    allow: bool | None = row(
        "allow", boolean, default=None, doc="Who may pass.", invalid=Invalid.CLOSE, nginx="whitelist"
    )
    limit: int = row("limit", size, default=7, doc="How much.")


def annotated(annotations: dict[str, str]) -> Ingress:
    return Ingress(Meta("shop", "web", annotations=annotations))


def test_without_annotations_every_value_is_the_default() -> None:
    assert read(IngressAnnotations, annotated({})) == Reading(IngressAnnotations())


def test_our_annotation_wins_over_its_nginx_twin() -> None:
    reading = read(Guarded, annotated({"portway.dev/allow": "true", "nginx.ingress.kubernetes.io/whitelist": "false"}))
    assert reading.values == Guarded(allow=True)


def test_the_nginx_twin_is_read_when_ours_is_absent() -> None:
    reading = read(Guarded, annotated({"nginx.ingress.kubernetes.io/whitelist": "false"}))
    assert reading.values == Guarded(allow=False)


def test_a_value_that_cannot_be_read_keeps_the_default_and_is_a_problem() -> None:
    reading = read(Guarded, annotated({"portway.dev/limit": "much"}))
    assert (reading.values, reading.closed) == (Guarded(), "")
    [problem] = reading.problems
    assert (problem.code, problem.origin.field) == ("annotation_invalid", "metadata.annotations[portway.dev/limit]")
    assert "'much'" in problem.found
    assert problem.done == "The default is used."


def test_a_security_value_that_cannot_be_read_closes_the_path() -> None:
    reading = read(Guarded, annotated({"nginx.ingress.kubernetes.io/whitelist": "everyone", "portway.dev/limit": "1"}))
    assert (reading.values.limit, reading.closed) == (1, "annotation_invalid")
    [problem] = reading.problems
    assert problem.done == "The paths of the Ingress answer 503."
    assert problem.origin.field == "metadata.annotations[nginx.ingress.kubernetes.io/whitelist]"


def test_a_closed_reading_closes_the_policies_of_all_routes() -> None:
    policies = Policies(Reading(IngressAnnotations(), closed="annotation_invalid"), CompileSettings())
    assert policies.of(tls=False) == Policy(closed="annotation_invalid")
    assert policies.of(tls=True) == Policy(https_redirect=True, closed="annotation_invalid")


def test_a_route_that_asks_for_nothing_has_no_policy() -> None:
    policies = Policies(Reading(IngressAnnotations()), CompileSettings(ssl_redirect=False))
    assert (policies.of(tls=False), policies.of(tls=True)) == (None, None)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("body-sise", "Did you mean portway.dev/body-size?"),
        ("tcp-ports", "It is for a Service."),
        ("what-is-this", "Remove it."),
    ],
)
def test_an_unknown_annotation_of_ours_is_a_notice_with_a_hint(name: str, remedy: str) -> None:
    [problem] = read(IngressAnnotations, annotated({f"portway.dev/{name}": "x"})).problems
    assert (problem.code, problem.severity, problem.remedy) == ("annotation_unknown", "notice", remedy)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("auth-realms", "Did you mean nginx.ingress.kubernetes.io/auth-realm?"), ("zzz", "Remove it.")],
)
def test_an_annotation_that_ingress_nginx_never_had_is_a_notice_too(name: str, remedy: str) -> None:
    [problem] = read(IngressAnnotations, annotated({f"nginx.ingress.kubernetes.io/{name}": "x"})).problems
    assert (problem.code, problem.severity, problem.remedy) == ("annotation_unknown", "notice", remedy)


def test_annotations_of_others_are_none_of_our_business() -> None:
    service = Service(Meta("shop", "web", annotations={"nginx.ingress.kubernetes.io/zzz": "x"}))
    assert read(ServiceAnnotations, service).problems == ()


def test_blanks_around_a_value_do_not_matter() -> None:
    assert read(IngressAnnotations, annotated({"portway.dev/body-size": " 8m "})).values.body_size == 8 << 20


def test_the_annotations_of_a_service_have_their_own_table() -> None:
    service = Service(Meta("shop", "web", annotations={"portway.dev/opaque-ports": "5432, db"}))
    assert read(ServiceAnnotations, service).values.opaque_ports == (5432, "db")


@pytest.mark.parametrize("kind", SCOPES)
def test_every_row_says_what_it_is_for(kind: Kind) -> None:
    table = rows(SCOPES[kind])
    assert all(entry.doc.endswith(".") for entry in table.values())
    named = {field: entry for field, entry in table.items() if entry.name}
    assert [entry.name.replace("-", "_") for entry in named.values()] == list(named)
    assert all(entry.nginx for field, entry in table.items() if field not in named)
    keys = [key for entry in table.values() for key in entry.keys]
    assert len(set(keys)) == len(keys)
