"""Texts that fit a regular expression."""

from __future__ import annotations

import pytest

from portway_operator.diff.samples import samples
from portway_proxy.patterns import PatternSet

PATTERNS = [
    "/admin/.*",
    "/api/v[12]/(.*)",
    "/(users|groups)/[^/]+/edit$",
    r"/\d+/\w*",
    "^/x{2,3}y?",
    "/something(/|$)(.*)",
    "(?i)/Foo",
    r"/a\.php",
    "/[^a-z]",
    r"/[^\d]+",
    "/(a(b|c)d)*e",
    "/(?:x|y)+?z",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_samples_fit(pattern: str) -> None:
    fits = [text for text in samples(pattern) if PatternSet([pattern]).first(text.encode()) == 0]
    # `(/|$)(.*)` is taken for two choices, one of which does not fit.
    assert len(fits) >= 0.75 * len(samples(pattern)) > 0


def test_each_alternative_is_there() -> None:
    assert samples("/(users|groups)/x") == ("/users/x", "/groups/x")


def test_there_are_few_samples_of_a_pattern_with_many_choices() -> None:
    assert len(samples("/(a|b|c)(a|b|c)(a|b|c)(a|b|c)")) == 8


@pytest.mark.parametrize("pattern", ["/(", r"/\z\p{Greek}", "/" + "(" * 500])
def test_what_only_another_engine_understands_has_none(pattern: str) -> None:
    assert samples(pattern) == ()
