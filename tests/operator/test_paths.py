"""Rule paths must come out in the form that the proxy normalises request paths to: here both are asked."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from portway_operator.decode import BadObject
from portway_operator.decode.paths import canonical_path
from portway_proxy.errors import BadTarget
from portway_proxy.l7.target import canonical_path as request_path

TYPES = ("Exact", "Prefix", "ImplementationSpecific")


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/", "/"),
        ("/foo", "/foo"),
        ("/foo/", "/foo/"),
        ("/foo.bar/.hidden/...", "/foo.bar/.hidden/..."),
        ("/%66oo", "/foo"),
        ("/%7Euser", "/~user"),
        ("/%7euser", "/~user"),
        ("/caf\u00e9", "/caf%C3%A9"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a b", "/a%20b"),
        ("/a?b#c", "/a%3Fb%23c"),
        ("/a;v=1", "/a;v=1"),
        ("/a%3b", "/a%3B"),
        ("/x@y:z!$&'()*+,=", "/x@y:z!$&'()*+,="),
    ],
)
def test_a_path_has_one_spelling(path: str, canonical: str) -> None:
    assert [canonical_path(path, path_type, "path") for path_type in TYPES] == [canonical] * 3


@pytest.mark.parametrize(
    "path",
    [
        "foo", "//", "/a//b", "/a//", "/.", "/..", "/./a", "/a/../b", "/a/..", "/%2e%2e/a", "/a/%2E/", "/..;/a", "/.;x",
        "/a%", "/a%2", "/a%zz", "/%00", "/a\x00", "/a\n", "/a\x7f", "/a\\b", "/\ud800",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path_type", TYPES)
def test_what_no_request_path_can_equal_is_refused(path: str, path_type: str) -> None:
    with pytest.raises(BadObject) as caught:
        canonical_path(path, path_type, "spec.path")
    assert caught.value.field == "spec.path"


@pytest.mark.parametrize("path", ["/a%2fb", "/a%2Fb", "/a%5cb"])
def test_an_encoded_slash_is_for_implementation_specific_paths_alone(path: str) -> None:
    for path_type in ("Exact", "Prefix"):
        with pytest.raises(BadObject):
            canonical_path(path, path_type, "path")
    assert canonical_path(path, "ImplementationSpecific", "path") == path.upper().replace("/A", "/a").replace("B", "b")


def test_only_an_implementation_specific_path_may_be_empty() -> None:
    assert canonical_path("", "ImplementationSpecific", "path") == "/"
    for path_type in ("Exact", "Prefix"):
        with pytest.raises(BadObject):
            canonical_path("", path_type, "path")


PIECES = st.lists(
    st.sampled_from(["/", "a", "B", ".", "..", "%2e", "%7E", "%41", "%c3%a9", "%2F", "%", ";", "é", " ", "+", "?"]),
    max_size=8,
).map(lambda pieces: "/" + "".join(pieces))


@given(PIECES, st.sampled_from(TYPES))
def test_a_canonical_path_is_what_a_request_path_is_normalised_to(path: str, path_type: str) -> None:
    try:
        canonical = canonical_path(path, path_type, "path")
    except BadObject:
        assume(False)
    assert canonical_path(canonical, path_type, "path") == canonical
    assert request_path(canonical.encode("ascii")) == canonical.encode("ascii")


@given(PIECES, st.sampled_from(TYPES))
def test_a_request_for_the_path_as_the_rule_spells_it_matches(path: str, path_type: str) -> None:
    assume(path.isascii() and " " not in path and "?" not in path)
    try:
        canonical = canonical_path(path, path_type, "path")
        requested = request_path(path.encode("ascii"))
    except (BadObject, BadTarget):
        assume(False)
    assert requested == canonical.encode("ascii")
