from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.variables import split, unknown


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("", [("", "")]),
        ("plain", [("plain", "")]),
        ("$host", [("", "host")]),
        ("a${host}b", [("a", ""), ("", "host"), ("b", "")]),
        ("$scheme://$host$request_uri", [("", "scheme"), ("://", ""), ("", "host"), ("", "request_uri")]),
    ],
)
def test_a_template_is_texts_and_variables_in_turn(template: str, parts: list[tuple[str, str]]) -> None:
    assert split(template) == parts


@pytest.mark.parametrize("template", ["$host", "${uri}x", "$http_x_tenant", "$cookie_a", "$arg_b", "none at all"])
def test_these_variables_there_are(template: str) -> None:
    assert unknown(template) == []


@pytest.mark.parametrize(("template", "name"), [("$", ""), ("$nothing", "nothing"), ("$http_", "http_"), ("${}", "")])
def test_others_there_are_not(template: str, name: str) -> None:
    assert unknown(template) == [name]


@given(st.text(st.sampled_from("a$_{}h"), max_size=12))
def test_no_text_is_lost(template: str) -> None:
    texts = [literal for literal, name in split(template) if not name]
    assert all(text in template for text in texts)
