from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.response import ResponseHead
from portway_proxy.l7.trail import trail_of
from portway_proxy.live import LiveUpstream
from portway_proxy.log_format import INGRESS_NGINX, VARIABLES, Escape, check, parse, unknown
from portway_proxy.log_variables import Moment, line_of
from portway_proxy.snapshot import Endpoint, Origin, PathMatch, Route, Upstream
from portway_proxy.tracing import Span
from worker_parts import Parts

HEAD = (
    b"GET /a/b?c=1&d=two HTTP/1.1\r\nHost: Shop.example:8080\r\nReferer: http://r/\r\nUser-Agent: agent/1\r\n"
    b"X-Request-ID: id-1\r\nAuthorization: Basic dXNlcjpwYXNz\r\nCookie: a=1; theme=dark\r\nX-User: me\r\n"
    b"Content-Type: text/x\r\nContent-Length: 3\r\n\r\n"
)


def moment() -> Moment:
    found = Moment("proxy-0")
    found.local, found.iso, found.offset = b"14/Nov/2023:22:13:20 +0000", b"2023-11-14T22:13:20+00:00", 1_700_000_000.0
    return found


async def served(head: bytes = HEAD) -> Exchange:
    exchange = Parts().exchange(head, started=100.0)
    exchange.route = Route("/a", PathMatch.PREFIX, "shop/web:80", Origin("Ingress", "shop", "front", "spec.rules[0]"))
    exchange.upstream = LiveUpstream(Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),)))
    exchange.pool = exchange.upstream.pools[0]
    exchange.response = ResponseHead(1, 201, b"Created")
    exchange.response.lines = [b"X-Cache: hit\r\n"]
    exchange.response.plain = b"-" * 20
    exchange.status = 201
    exchange.request_size = 3
    exchange.response_size = 12
    exchange.ended = 101.5
    return exchange


def line(template: str, exchange: Exchange, escape: Escape = Escape.DEFAULT) -> str:
    return line_of(template, escape, moment())(exchange).decode().removesuffix("\n")


async def test_every_variable_says_what_it_should() -> None:
    exchange = await served()
    trail_of(exchange).span = Span(b"1" * 32, b"2" * 16, b"")
    expected = {
        "args": "c=1&d=two",
        "body_bytes_sent": "12",
        "bytes_sent": "32",
        "content_length": "3",
        "content_type": "text/x",
        "host": "shop.example",
        "hostname": "proxy-0",
        "https": "-",
        "ingress_name": "front",
        "is_args": "?",
        "location_path": "/a",
        "msec": "1700000101.500",
        "namespace": "shop",
        "opentelemetry_span_id": "2" * 16,
        "opentelemetry_trace_id": "1" * 32,
        "portway_reason": "-",
        "proxy_alternative_upstream_name": "",
        "proxy_upstream_name": "shop-web-80",
        "query_string": "c=1&d=two",
        "remote_addr": "192.0.2.1",
        "remote_user": "user",
        "req_id": "id-1",
        "request": "GET /a/b?c=1&d=two HTTP/1.1",
        "request_id": "id-1",
        "request_length": str(len(HEAD) + 3),
        "request_method": "GET",
        "request_time": "1.500",
        "request_uri": "/a/b?c=1&d=two",
        "scheme": "http",
        "server_name": "shop.example",
        "server_protocol": "HTTP/1.1",
        "service_name": "web",
        "service_port": "80",
        "status": "201",
        "time_iso8601": "2023-11-14T22:13:20+00:00",
        "time_local": "14/Nov/2023:22:13:20 +0000",
        "upstream_addr": "10.0.0.1:8080",
        "upstream_connect_time": "0.000",
        "upstream_header_time": "1.500",
        "upstream_response_length": "12",
        "upstream_response_time": "1.500",
        "upstream_status": "201",
        "uri": "/a/b",
        "arg_d": "two",
        "cookie_theme": "dark",
        "http_x_user": "me",
        "http_user_agent": "agent/1",
        "http_host": "Shop.example:8080",
        "http_content_length": "3",
        "upstream_http_x_cache": "hit",
        "sent_http_x_cache": "hit",
        "http_x_absent": "-",
        "cookie_none": "-",
        "arg_none": "-",
    }
    found = {name: line(f"${name}", exchange) for name in expected}
    assert found == expected
    assert set(VARIABLES) - set(expected) == {"pid"}
    assert line("$pid", exchange).isdecimal()


async def test_ingress_nginxs_line_is_ingress_nginxs() -> None:
    assert line(INGRESS_NGINX, await served()) == (
        '192.0.2.1 - user [14/Nov/2023:22:13:20 +0000] "GET /a/b?c=1&d=two HTTP/1.1" 201 12 "http://r/" "agent/1" '
        f"{len(HEAD) + 3} 1.500 [shop-web-80] [] 10.0.0.1:8080 12 1.500 201 id-1"
    )


async def test_attempts_that_failed_come_first() -> None:
    exchange = await served()
    trail = trail_of(exchange)
    trail.connect = 0.004
    trail.failed(b"10.0.0.9:80", 502, 100.25)
    trail.headed, trail.connect = 100.75, None
    names = ("addr", "status", "response_time", "connect_time", "header_time", "response_length")
    assert [line(f"$upstream_{name}", exchange) for name in names] == [
        "10.0.0.9:80, 10.0.0.1:8080",
        "502, 201",
        "0.250, 1.250",
        "0.004, 0.000",
        "-, 0.500",
        "0, 12",
    ]


async def test_what_reached_nobody_has_dashes() -> None:
    exchange = Parts().exchange(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", started=1.0)
    exchange.status, exchange.reason, exchange.ended = 404, "no_path", 1.0
    template = "$upstream_addr $upstream_status $namespace $service_name $proxy_upstream_name $args $portway_reason"
    assert line(template, exchange) == "- - - - - - no_path"


@pytest.mark.parametrize(
    ("template", "parts"),
    [
        ("$status", [("", "status"), ("", "")]),
        ("a ${status}b $Request_Time$", [("a ", "status"), ("b ", "request_time"), ("$", "")]),
        ("100% $$status", [("100% $", "status"), ("", "")]),
    ],
)
async def test_names_may_stand_in_braces_and_in_any_case(template: str, parts: list[tuple[str, str]]) -> None:
    assert parse(template) == parts
    assert line(template, await served())


async def test_a_variable_that_there_is_not_is_named_and_says_a_dash() -> None:
    assert unknown("$remote_adr $http_ $nothing_like_it_at_all") == [
        "There is no variable $remote_adr. Did you mean $remote_addr?",
        "There is no variable $http_. Did you mean $https?",
        "There is no variable $nothing_like_it_at_all.",
    ]
    assert line("[$remote_adr]", await served()) == "[-]"


@pytest.mark.parametrize("log_format", ["text", "json", "ingress-nginx", "$status"])
def test_names_and_templates_are_formats(log_format: str) -> None:
    check(log_format)


@pytest.mark.parametrize(
    ("log_format", "why"),
    [("xml", "none of text, json"), ("$status\n", "one line"), ("$stats", "Did you mean \\$status")],
)
def test_what_is_no_format_is_refused_with_a_reason(log_format: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check(log_format)


HOSTILE = b'"x" \\ \x1b[31m \xe9\t\x7f'


@pytest.mark.parametrize(
    ("escape", "expected"),
    [
        (Escape.DEFAULT, r"\x22x\x22 \x5C \x1B[31m \xE9\x09\x7F"),
        (Escape.JSON, r"\"x\" \\ \u001b[31m \\xe9\t" + r"\u007f"),
        (Escape.NONE, '"x" \\ \\x1B[31m \xe9\\x09\\x7F'),
    ],
)
async def test_each_way_to_escape(escape: Escape, expected: str) -> None:
    exchange = await served()
    exchange.head.agent = HOSTILE
    found = line_of("$http_user_agent", escape, moment())(exchange).decode("latin-1")
    assert found == expected + "\n"


@given(st.binary(max_size=40))
async def test_no_value_begins_a_line_or_speaks_to_a_terminal(value: bytes) -> None:
    exchange = await served()
    exchange.head.agent = value
    for escape in Escape:
        found = line_of("$http_user_agent|", escape, moment())(exchange)
        assert not set(found[:-1]) & set(range(0x20))
    whole = line_of('{"agent":"$http_user_agent"}', Escape.JSON, moment())(exchange)
    assert json.loads(whole)["agent"] == value.decode(errors="backslashreplace")
