from __future__ import annotations

from collections.abc import Callable

import pytest

from portway_operator.parse_http import (
    field_names,
    fields,
    hosts,
    location,
    methods_list,
    origins,
    pattern,
    prefix,
    redirect_status,
    replacement,
    some_networks,
    template,
)

GOOD: list[tuple[Callable[[str], object], str, object]] = [
    (some_networks, "10.1.2.3/8, ::1,192.0.2.7", ("10.0.0.0/8", "192.0.2.7/32", "::1/128")),
    (some_networks, "10.0.0.0/8,10.0.0.0/8", ("10.0.0.0/8",)),
    (location, "https://new.example$request_uri", "https://new.example$request_uri"),
    (location, "/here", "/here"),
    (location, "$scheme://a.example", "$scheme://a.example"),
    (template, "$http_x_tenant.internal:80", "$http_x_tenant.internal:80"),
    (prefix, "/shop", "/shop"),
    (replacement, "/$2?a=b", "/$2?a=b"),
    (replacement, "$1", "$1"),
    (redirect_status(308), "308", 308),
    (origins, "https://A.example , *", ("https://a.example", "*")),
    (origins, "app://local,https://*.a.example:8443,", ("app://local", "https://*.a.example:8443")),
    (field_names, "X-One,X-Two", "X-One,X-Two"),
    (methods_list, "GET, put", "GET, put"),
    (hosts, "B.example, a.example", ("a.example", "b.example")),
    (pattern, "v[0-9]+", "v[0-9]+"),
    (fields, "X-A: 1\n\n X-B:2 ", (("X-A", "1"), ("X-B", "2"))),
]

BAD: list[tuple[Callable[[str], object], list[str]]] = [
    (some_networks, ["", "10.0.0.0/33", "a", "10.0.0.0/8;::1", " , "]),
    (location, ["", "a.example", "ftp://a", "javascript:a", "https://a b", "/a\r\nb", "https://$nothing", 'https://"']),
    (template, ["", "a b", "$", "a/b", "a\nb"]),
    (prefix, ["", "a", "/a b", "/a\n", '/"']),
    (replacement, ["", "a", "/a b", "/a#b", "/$a", "/$", "/a\n"]),
    (redirect_status(307), ["308", "299", "3", "", "301 "]),
    (origins, ["", "a.example", "https://", "https://a.*.example", "https://a.example/", "null", "https://a\n"]),
    (field_names, ["", "a b", "a;b", "a\n"]),
    (methods_list, ["", "G T", "1", "GET\n"]),
    (hosts, ["", "~^a$", "a.example:80", "*.a.example", "a b"]),
    (pattern, ["(", "a(?!b)"]),
    (fields, ["", "X-A", "X-A 1", "X-A:", "Content-Length: 1", "Connection: close", "a: 1\nA: 2", "X-A: \x00"]),
]


@pytest.mark.parametrize(("parse", "value", "read"), GOOD)
def test_a_good_value_is_read(parse: Callable[[str], object], value: str, read: object) -> None:
    assert parse(value) == read


@pytest.mark.parametrize(("parse", "value"), [(parse, value) for parse, values in BAD for value in values])
def test_a_bad_value_is_refused_with_a_reason(parse: Callable[[str], object], value: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse(value)
