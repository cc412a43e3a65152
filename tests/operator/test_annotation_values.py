"""Whatever stands in an annotation, it is read or it is a problem, and what comes of it can be served."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.annotations import IngressAnnotations, Invalid, Reading, read, rows
from portway_operator.compile.policies import Policies
from portway_operator.objects import Ingress, Meta
from portway_operator.settings import CompileSettings
from portway_proxy.describe_policies import describe_policy
from portway_proxy.l7.rules import RuleBook
from portway_proxy.snapshot import Origin, PathMatch, Policy, Route

TABLE = rows(IngressAnnotations)
KEYS = sorted(key for row in TABLE.values() for key in row.keys)
# Values that mean something to one row or another, so that not all of what is tried is nonsense.
KNOWN = [
    "true",
    "false",
    "0",
    "1",
    "10",
    "60",
    "any",
    "basic",
    "/",
    "/$1",
    "*",
    "10.0.0.0/8",
    "https://a.example",
    "a.b",
]
values = st.sampled_from(KNOWN) | st.text(max_size=40) | st.from_regex(r"[ -~]{0,40}", fullmatch=True)


def reading(annotations: dict[str, str]) -> Reading[IngressAnnotations]:
    return read(IngressAnnotations, Ingress(Meta("shop", "web", annotations=annotations)))


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=6))
def test_any_annotations_come_to_a_policy_that_a_proxy_can_serve(annotations: dict[str, str]) -> None:
    found = reading(annotations)
    for tls in (False, True):
        policy = Policies(found, CompileSettings(), zone="shop/web").of(tls=tls)
        if policy is not None:
            same = msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=Policy)
            assert same == policy
            assert "\n" not in describe_policy(policy)
            route = Route("/", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "web"), policy)
            assert RuleBook().next([route], []).of(policy).body_limit == policy.body_size


@given(st.sampled_from(KEYS), st.text(max_size=40))
def test_no_value_can_begin_another_line_of_a_head(key: str, text: str) -> None:
    found = reading({key: f"a\r\nEvil: {text}"})
    policy = Policies(found, CompileSettings(ssl_redirect=False)).of(tls=False)
    assert policy is None or policy.closed or "Evil" not in str(policy) or policy.answer == ()


@pytest.mark.parametrize("field", TABLE)
def test_a_value_that_no_row_can_read_is_a_problem_that_does_what_the_table_says(field: str) -> None:
    row = TABLE[field]
    for key in row.keys:
        found = reading({key: "\x00 no { such } value\n\\"})
        assert "annotation_invalid" in [problem.code for problem in found.problems], key
        assert bool(found.closed) is (row.invalid is Invalid.CLOSE)
        assert getattr(found.values, field) == getattr(IngressAnnotations(), field)
