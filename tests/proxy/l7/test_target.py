from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from portway_proxy.errors import BadHost, BadTarget
from portway_proxy.l7.target import canonical_path, parse_host, split_absolute
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Host, Origin, PathMatch, Route, Snapshot

# --- hosts


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (b"shop.example", b"shop.example"),
        (b"Shop.EXAMPLE", b"shop.example"),
        (b"shop.example:8080", b"shop.example"),
        (b"shop.example.", b"shop.example"),
        (b"Shop.Example.:443", b"shop.example"),
        (b"a", b"a"),
        (b"_dmarc.a-b.c_d", b"_dmarc.a-b.c_d"),
        (b"10.0.0.1:80", b"10.0.0.1"),
        (b"[::1]", b"[::1]"),
        (b"[FD00::A]:8443", b"[fd00::a]"),
        (b"[::ffff:10.0.0.1]", b"[::ffff:10.0.0.1]"),
        (b".".join([b"a" * 49] * 5) + b"abc.:65535", b".".join([b"a" * 49] * 5) + b"abc"),
    ],
)
def test_a_host_loses_its_case_its_port_and_its_last_dot(value: bytes, name: bytes) -> None:
    assert parse_host(value) == name


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b".",
        b"..",
        b".a",
        b"a..",
        b"a..b",
        b"-a",
        b"a b",
        b"a\t",
        b"a,b",
        b"a;b",
        b"a/b",
        b"a\\b",
        b"a@b",
        b"user:pw@b",
        b"a:",
        b"a:80:80",
        b"a:+80",
        b"a:8a",
        b"a:123456",
        b"a#",
        b"a?b",
        b"a%00",
        b"a%2eb",
        b"*.a",
        b"::1",
        b"[::1",
        b"::1]",
        b"[]",
        b"[g::1]",
        b"[::1]a",
        b"[fe80::1%eth0]",
        b"\xc3\xa4.example",
        b"\xe2\x84\xaa.example",  # KELVIN SIGN, which str.lower() makes a k.
        b"a\x00",
        b"a\n",
        b"a" * 261,
    ],
)
def test_a_host_that_is_no_name_or_address_is_refused(value: bytes) -> None:
    with pytest.raises(BadHost):
        parse_host(value)


# --- absolute-form


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        (b"http://a/x?y", (b"a", b"/x?y")),
        (b"HTTPS://A:8443/", (b"A:8443", b"/")),
        (b"http://a", (b"a", b"/")),
        (b"http://a?x", (b"a", b"/?x")),
        (b"http://a//b", (b"a", b"//b")),
        (b"http:///x", (b"", b"/x")),
        (b"http://u@a/", (b"u@a", b"/")),
    ],
)
def test_an_absolute_target_is_an_authority_and_a_path(target: bytes, parts: tuple[bytes, bytes]) -> None:
    assert split_absolute(target) == parts


@pytest.mark.parametrize("target", [b"*", b"x", b"", b"ftp://a/", b"http:/a", b"http:a", b"file:///x", b"a:443"])
def test_a_target_that_is_neither_path_nor_http_url_is_refused(target: bytes) -> None:
    with pytest.raises(BadTarget):
        split_absolute(target)


# --- paths


@pytest.mark.parametrize(
    "path",
    [b"/", b"/a", b"/a/", b"/a/b.html", b"/a.b/c..d/e.", b"/a...", b"/~u/@b/c:d/e,f", b"/!$&'()*+=", b'/{}|^`"<>[]'],
)
def test_a_canonical_path_is_returned_as_the_same_object(path: bytes) -> None:
    assert canonical_path(path) is path


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        (b"//", b"/"),
        (b"//a", b"/a"),
        (b"/a//b", b"/a/b"),
        (b"/a//", b"/a/"),
        (b"/.", b"/"),
        (b"/./a", b"/a"),
        (b"/a/.", b"/a/"),
        (b"/a/./b", b"/a/b"),
        (b"/a/..", b"/"),
        (b"/a/../", b"/"),
        (b"/a/../b", b"/b"),
        (b"/a/b/..", b"/a/"),
        (b"/a/b/../c/./d", b"/a/c/d"),
        (b"/.a", b"/.a"),
        (b"/..a/b", b"/..a/b"),
        (b"/...", b"/..."),
        (b"/%61%64min", b"/admin"),
        (b"/%7Euser", b"/~user"),
        (b"/a%20b", b"/a%20b"),
        (b"/a%c3%a9", b"/a%C3%A9"),
        (b"/%2e/a", b"/a"),
        (b"/a/%2E%2e/b", b"/b"),
        (b"/a/.%2e/b", b"/b"),
        (b"/%2541", b"/%2541"),
        (b"/%252e%252e/a", b"/%252e%252e/a"),
        (b"/a%2fb", b"/a%2Fb"),
        (b"/a%3fb", b"/a%3Fb"),
        (b"/a;v=1/b", b"/a;v=1/b"),
        (b"/;/a", b"/;/a"),
        (b"/a..;/b", b"/a..;/b"),
    ],
)
def test_dots_slashes_and_escapes_come_into_one_form(path: bytes, canonical: bytes) -> None:
    assert canonical_path(path) == canonical


@pytest.mark.parametrize(
    "path",
    [
        b"/..",
        b"/../a",
        b"/a/../..",
        b"/%2e%2e/a",
        b"/%",
        b"/%4",
        b"/%zz",
        b"/%%41",
        b"/%+1",
        b"/% 1",
        b"/%u0041",
        b"/%00",
        b"/a%00.html",
        b"/a\\b",
        b"/a#b",
        b"/a/..%2Fb",
        b"/a/..%2fb",
        b"/a%2f../b",
        b"/a%2F.%2Fb",
        b"/a/%2e%2e%2fb",
        b"/a/..%5cb",
        b"/a%5C..",
        b"/a%2f..",
        b"/a/..;/b",
        b"/a/..;x=1/b",
        b"/a/.;/b",
        b"/a/..;",
        b"/a/%2e%2e;/b",
        b"/a/..%3b/b",
        b"/a/..;x%2Fb",
    ],
)
def test_a_path_that_two_readers_would_read_differently_is_refused(path: bytes) -> None:
    with pytest.raises(BadTarget):
        canonical_path(path)


paths = st.lists(
    st.sampled_from(
        [
            b"/",
            b"//",
            b"a",
            b".",
            b"..",
            b"/.",
            b"/..",
            b";",
            b"%2e",
            b"%2F",
            b"%5c",
            b"%25",
            b"%41",
            b"%3b",
            b"%7e",
            b"=",
        ]
    ),
    max_size=12,
).map(lambda parts: b"/" + b"".join(parts))


@given(paths)
@example(b"/%25%32%65")
@example(b"/./.;/..")
def test_a_canonical_path_is_canonical(path: bytes) -> None:
    try:
        canonical = canonical_path(path)
    except BadTarget:
        return
    assert canonical_path(canonical) == canonical
    first, *inner = canonical.split(b"/")
    last = inner.pop()
    assert not first
    assert not {b"", b".", b".."} & set(inner)
    assert last not in (b".", b"..")


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="?"), max_size=30))
def test_any_path_is_canonical_or_refused(text: str) -> None:
    try:
        canonical = canonical_path(b"/" + text.encode())
    except BadTarget:
        return
    assert canonical.startswith(b"/")
    assert canonical_path(canonical) == canonical


# --- a rule on /admin holds for every spelling of it

slashes = st.sampled_from(
    [b"/", b"//", b"/./", b"/x/../", b"/%2e/", b"/x/%2E./", b"%2F", b"%2f/", b"/%5c", b"/;/", b"\\"]
)
endings = st.sampled_from([b"", b";", b";x=1", b"%3Bx", b"/.", b"/x/.."])


@st.composite
def spellings(draw: st.DrawFn) -> bytes:
    """Return a way to spell `/admin` or something below it."""
    path = b"/" + draw(st.sampled_from([b"", b"/", b"./", b"x/../", b"%2F", b"%5C/", b";/", b"..;/"]))
    for number, segment in enumerate([b"admin", *draw(st.lists(st.sampled_from([b"users", b"x"]), max_size=2))]):
        if number:
            path += draw(slashes)
        for octet in segment:
            path += draw(st.sampled_from([b"%c", b"%%%02x", b"%%%02X"])) % octet
        path += draw(endings)
    return path


def rules() -> RouteTable:
    origin = Origin("Ingress", "shop", "web")
    routes = tuple(
        Route(path, match, upstream, origin)
        for path, match, upstream in (
            ("/public", PathMatch.EXACT, "public"),
            ("/admin", PathMatch.PREFIX, "admin"),
            ("/", PathMatch.PREFIX, "rest"),
        )
    )
    return RouteTable.build(Snapshot(hosts=(Host("h", routes),)))


@given(spellings())
@example(b"/admin%2Fusers")
@example(b"//%61dmin;x/users")
def test_no_spelling_of_a_path_evades_its_rule(path: bytes) -> None:
    try:
        canonical = canonical_path(path)
        upstream = rules().match(b"h", canonical).upstream
    except BadTarget:
        return
    assert upstream == "admin"
    assert canonical == b"/admin" or canonical.startswith(b"/admin/")
