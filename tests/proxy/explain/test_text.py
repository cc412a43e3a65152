from __future__ import annotations

from portway_proxy.explain.explanation import (
    EndpointState,
    Explanation,
    Outcome,
    OutcomeKind,
    ShownEndpoint,
    ShownRequest,
    Stage,
    StageName,
)
from portway_proxy.explain.text import describe_explanation

REQUEST = ShownRequest("GET", "http://shop.example/", "192.0.2.1")
GOES = Outcome(OutcomeKind.FORWARD, says="The request goes to shop/web:80.")


def test_many_endpoints_are_counted_and_those_that_are_not_well_named_first() -> None:
    many = tuple(ShownEndpoint(f"10.0.0.{number}:80") for number in range(100))
    ill = ShownEndpoint("10.0.1.1:80", EndpointState.EJECTED, 2)
    lines = describe_explanation(Explanation(REQUEST, GOES, endpoints=(*many, ill))).splitlines()
    assert [line.strip() for line in lines[1:3]] == ["10.0.1.1:80 ejected, 2 connections", "10.0.0.0:80 ready"]
    assert lines[-2].strip() == "and 89 more"
    assert len(lines) == 15


def test_what_could_begin_a_line_or_steer_a_terminal_is_escaped() -> None:
    stage = Stage(StageName.HOST, "a\r\n=> 200 OK\x1b[2J", "why\nnot")
    text = describe_explanation(Explanation(REQUEST, GOES, stages=(stage,)))
    assert text.splitlines()[1:3] == [r"host         a\r\n=> 200 OK\x1b[2J", r"             because why\nnot"]
