"""Snippets of nginx's configuration: translated to annotations that exist, and told line by line where they are not."""

from __future__ import annotations

from contextlib import suppress

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.annotations import IngressAnnotations, read
from portway_operator.check.directives import BadText, read_directives
from portway_operator.check.paste import pasted
from portway_operator.check.snippets import NOBODY, translate
from portway_operator.decode import decode
from portway_operator.objects import Backend, Ingress, IngressPath, IngressRule, Meta
from portway_proxy.snapshot import PathMatch

OURS = "portway.dev/"
INGRESS = Ingress(
    Meta("shop", "web", annotations={"nginx.ingress.kubernetes.io/auth-type": "basic"}),
    "nginx",
    has_rules=True,
    rules=(IngressRule("shop.example", (IngressPath("/", PathMatch.PREFIX, Backend("web", 80), "f"),), "r"),),
)

TRANSLATED: list[tuple[str, dict[str, str]]] = [
    ('more_set_headers "X-A: b";', {"response-headers": "X-A: b"}),
    ("add_header X-A b always;\nadd_header X-B 'c d';", {"response-headers": "X-A: b\nX-B: c d\n"}),
    ("proxy_set_header Host inner.example;", {"upstream-host": "inner.example"}),
    ("proxy_set_header X-Real-IP $remote_addr;", {}),
    ("proxy_set_header X-Tenant blue;", {"request-headers": "X-Tenant: blue"}),
    (
        'proxy_set_header X-A $host;\nproxy_set_header Authorization "Basic YTpi";',
        {"request-headers": "X-A: $host\nAuthorization: Basic YTpi\n"},
    ),
    ("return 301 https://new.example$request_uri;", {"permanent-redirect": "https://new.example$request_uri"}),
    (
        "return 308 https://new.example;",
        {"permanent-redirect": "https://new.example", "permanent-redirect-code": "308"},
    ),
    ("return 302 https://new.example;", {"temporal-redirect": "https://new.example"}),
    ("return 403;", {"deny-source-range": NOBODY}),
    (
        "rewrite ^ https://new.example$request_uri? permanent;",
        {"permanent-redirect": "https://new.example$request_uri"},
    ),
    ("rewrite ^/(.*)$ https://new.example/$1 permanent;", {"permanent-redirect": "https://new.example$request_uri"}),
    ("rewrite ^(.*)$ https://new.example$1? redirect;", {"temporal-redirect": "https://new.example$uri"}),
    ("allow 10.0.0.0/8;\nallow 192.0.2.1;\ndeny all;", {"allow-source-range": "10.0.0.0/8, 192.0.2.1"}),
    ("deny 192.0.2.1;\nallow all;", {"deny-source-range": "192.0.2.1"}),
    (
        "deny 10.1.0.0/16; allow 10.0.0.0/8; deny all;",
        {"deny-source-range": "10.1.0.0/16", "allow-source-range": "10.0.0.0/8"},
    ),
    ("deny all;", {"deny-source-range": NOBODY}),
    ("client_max_body_size 20m;", {"body-size": "20m"}),
    ("proxy_connect_timeout 5s;", {"connect-timeout": "5s"}),
    ("proxy_read_timeout 3600;\nproxy_send_timeout 1h;", {"read-timeout": "3600", "send-timeout": "1h"}),
    ("gzip off;", {}),
    ("if ($scheme = http) { return 301 https://$host$request_uri; }", {"force-ssl-redirect": "true"}),
    ('if ($http_x_forwarded_proto = "http") { return 301 https://$host$request_uri; }', {"force-ssl-redirect": "true"}),
]

LEFT: list[tuple[str, list[tuple[int, str]]]] = [
    ("# why\ngzip on;", [(2, "gzip on;")]),
    ("proxy_set_header X-Session $session;", [(1, "proxy_set_header X-Session $session;")]),
    ("more_clear_headers Server;", [(1, "more_clear_headers Server;")]),
    ("add_header X-A $host;", [(1, "add_header X-A $host;")]),
    (
        "allow 10.0.0.0/8;\ndeny 10.1.0.0/16;\ndeny all;",
        [(1, "allow 10.0.0.0/8;"), (2, "deny 10.1.0.0/16;"), (3, "deny all;")],
    ),
    (
        'if ($http_user_agent ~* "bot") {\n  return 403;\n}',
        [(1, "if ($http_user_agent ~* bot ) { ... }"), (2, "return 403;")],
    ),
    (
        "if ($scheme = https) { return 301 https://$host; }",
        [(1, "if ($scheme = https) { ... }"), (1, "return 301 https://$host;")],
    ),
    ("proxy_read_timeout 1h 30m;", [(1, "proxy_read_timeout 1h 30m;")]),
    ("rewrite ^/a/(.*)$ /b/$1 break;", [(1, "rewrite ^/a/(.*)$ /b/$1 break;")]),
    ("return 404;", [(1, "return 404;")]),
    ("set $x 1", [(1, "set $x 1")]),
    ("location / { proxy_pass http://x; }", [(1, "location / { ... }"), (1, "proxy_pass http://x;")]),
]


def said(text: str) -> list[tuple[int, str]]:
    return [(left.line, left.text) for left in translate("s", text).left]


@pytest.mark.parametrize(("text", "expected"), TRANSLATED, ids=[text for text, _ in TRANSLATED])
def test_an_idiom_becomes_annotations_that_exist(text: str, expected: dict[str, str]) -> None:
    found = translate("s", text)
    assert (dict(found.annotations), found.left) == ({OURS + name: value for name, value in expected.items()}, ())
    owner = Ingress(Meta("shop", "web", annotations=found.annotations))
    assert read(IngressAnnotations, owner).problems == ()


@pytest.mark.parametrize(("text", "expected"), LEFT, ids=[text for text, _ in LEFT])
def test_what_is_not_translated_is_told_line_by_line(text: str, expected: list[tuple[int, str]]) -> None:
    assert said(text) == expected
    assert dict(translate("s", text).annotations) == {}


def ingresses(text: str) -> list[Ingress]:
    """Return the Ingresses that a snippet is pasted as."""
    _, _, more = pasted(translate("s", text), INGRESS).yaml.partition("# Beside it")
    found = [decode(raw) for raw in yaml.safe_load_all(more.partition("\n")[2]) if raw is not None]
    return [one for one in found if isinstance(one, Ingress)]


@pytest.mark.parametrize(
    ("text", "path", "match", "annotation"),
    [
        ("location = /x { deny all; }", "/x", PathMatch.EXACT, ("deny-source-range", NOBODY)),
        ("location /x { return 403; }", "/x", PathMatch.PREFIX, ("deny-source-range", NOBODY)),
        (r"location ~* \.git { deny all; }", r"/.*\.git", PathMatch.REGEX, ("use-regex", "true")),
        ("location ~ ^/a { allow 10.0.0.0/8; deny all; }", "/a", PathMatch.REGEX, ("allow-source-range", "10.0.0.0/8")),
        (
            "rewrite ^/old$ https://b.example/ permanent;",
            "/old",
            PathMatch.EXACT,
            ("permanent-redirect", "https://b.example/"),
        ),
    ],
)
def test_a_path_of_its_own_becomes_an_ingress_that_can_be_pasted(
    text: str, path: str, match: PathMatch, annotation: tuple[str, str]
) -> None:
    [found] = ingresses(text)
    [only] = found.rules[0].paths or ()
    assert (found.rules[0].host, only.path, only.match, found.faults) == ("shop.example", path, match, ())
    assert found.meta.annotations[OURS + annotation[0]] == annotation[1]


def test_a_path_that_reaches_the_endpoint_keeps_the_guard_of_its_ingress() -> None:
    [found] = ingresses("location /x { allow 10.0.0.0/8; deny all; }")
    assert found.meta.annotations["nginx.ingress.kubernetes.io/auth-type"] == "basic"


@given(st.text(alphabet="ab $;{}\"'#\\\n~^()", max_size=60))
def test_any_text_is_read_or_said_to_be_none(text: str) -> None:
    translate("s", text)
    with suppress(BadText):
        read_directives(text)
