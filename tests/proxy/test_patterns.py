from __future__ import annotations

import pytest

from portway_proxy.patterns import BadPattern, PatternSet, compile_pattern


@pytest.mark.parametrize("text", ["(", "a(?=b)", "(a)\\1", "a{1001}", "a" * 1001, "[z-a]", "*"])
def test_what_the_engine_does_not_know_is_bad(text: str) -> None:
    with pytest.raises(BadPattern, match=r"\w"):
        compile_pattern(text)


def test_upper_and_lower_case_are_one_unless_they_are_to_be_told_apart() -> None:
    assert compile_pattern("/api").match(b"/API") is not None
    assert compile_pattern("/api", exact=True).match(b"/API") is None


@pytest.mark.parametrize("count", [2, 7, 8, 300])
def test_the_first_of_those_that_fit_the_beginning_is_found(count: int) -> None:
    patterns = PatternSet([f"/p{number}(/|$)(.*)" for number in range(count)] + ["/", "/p"])
    assert patterns.first(b"/p1/x") == 1
    assert patterns.first(b"/P%d" % (count - 1)) == count - 1
    assert patterns.first(b"/p") == count
    assert patterns.first(b"x/p1") == -1
    assert patterns.groups(1, b"/p1/x/y") == (b"/", b"x/y")
    assert patterns.groups(1, b"/p2") == ()


def test_a_group_that_took_no_part_is_empty() -> None:
    assert PatternSet(["/a(x)?(y)?"]).groups(0, b"/ay") == (b"", b"y")


def test_a_hostile_text_costs_no_more_than_its_length() -> None:
    assert PatternSet(["/(a*)*(a*)*(a*)*b"] * 9).first(b"/" + b"a" * 8000) == -1
