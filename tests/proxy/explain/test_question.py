from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.explain.question import STRANGER, BadQuestion, Question
from portway_proxy.l7.request import RequestParser
from portway_proxy.settings import Limits


@pytest.mark.parametrize(
    ("url", "scheme", "host", "port", "target"),
    [
        ("http://shop.example", "http", "shop.example", 0, "/"),
        ("shop.example/a?b=1#c", "http", "shop.example", 0, "/a?b=1"),
        ("HTTPS://Shop.Example:8443/", "https", "Shop.Example", 8443, "/"),
        ("http://shop.example?b=1", "http", "shop.example", 0, "/?b=1"),
        ("http://[fd00::1]:8080/x", "http", "[fd00::1]", 8080, "/x"),
        ("http://shop.example//a/../b", "http", "shop.example", 0, "//a/../b"),
        ("http://shop.example/é b", "http", "shop.example", 0, "/%C3%A9%20b"),
        ("http://bücher.example/", "http", "xn--bcher-kva.example", 0, "/"),
        ("tcp://db.example:5432", "tcp", "db.example", 5432, "/"),
        ("udp://[fd00::1]:53", "udp", "[fd00::1]", 53, "/"),
    ],
)
def test_a_url_is_read_as_clients_read_it(url: str, scheme: str, host: str, port: int, target: str) -> None:
    asked = Question.of(url)
    assert (asked.scheme, asked.host, asked.port, asked.target) == (scheme, host, port, target)


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "no host"),
        ("ftp://shop.example/", "no URL"),
        ("http://", "no host"),
        ("http://shop.example:99999/", "no host, or no port"),
        ("http://sh op.example/", "no host"),
        ("http://ada:secret@shop.example/", "Authorization"),
        ("tcp://db.example", "no port"),
        ("http://shop.example/" + "a" * 40_000, "more than"),
    ],
)
def test_what_is_no_url_is_told(url: str, named: str) -> None:
    with pytest.raises(BadQuestion, match=named) as raised:
        Question.of(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("field", ["", "no colon", ": empty", "A: b\r\nC: d", "A: b\nC: d", "A: \0"])
def test_a_field_that_is_none_or_would_become_two_is_refused(field: str) -> None:
    with pytest.raises(BadQuestion):
        Question.of("http://shop.example/", fields=[field])


@pytest.mark.parametrize("method", ["", "GE T", "GET\r\n", "G" * 100])
def test_a_method_that_is_none_is_refused(method: str) -> None:
    with pytest.raises(BadQuestion, match="no method"):
        Question.of("http://shop.example/", method)


def test_who_asks_is_an_address_and_a_stranger_when_nobody_says_it() -> None:
    assert Question.of("http://shop.example/").client == STRANGER
    assert Question.of("http://shop.example/", client="::ffff:10.0.0.1").client == "10.0.0.1"
    with pytest.raises(BadQuestion, match="no address"):
        Question.of("http://shop.example/", client="shop.example")


def test_more_fields_than_anybody_sends_are_refused() -> None:
    with pytest.raises(BadQuestion, match="more than"):
        Question.of("http://shop.example/", fields=["A: b"] * 1000)
    with pytest.raises(BadQuestion, match="more than"):
        Question.of("http://shop.example/", fields=["A: " + "b" * 200_000])


def test_a_host_field_goes_before_that_of_the_url() -> None:
    asked = Question.of("http://10.0.0.1:8080/a", fields=["host: shop.example", "X-A:b"])
    assert asked.data == b"GET /a HTTP/1.1\r\nhost: shop.example\r\nX-A: b\r\n\r\n"
    assert (asked.asked_host, asked.authority) == ("shop.example", "10.0.0.1:8080")
    assert Question.of("https://shop.example:443/").data == b"GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n"


def test_an_address_is_no_name_that_a_tls_client_asks_for() -> None:
    assert Question.of("https://10.0.0.1/").name == Question.of("https://[fd00::1]/").name == ""
    assert Question.of("https://Shop.Example./").name == "shop.example"


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3), st.text(max_size=6))
def test_whatever_is_asked_is_one_request_or_none(url: str, fields: list[str], method: str) -> None:
    try:
        asked = Question.of(url, method, fields)
    except BadQuestion:
        return
    assert asked.data.count(b"\r\n\r\n") == 1
    assert asked.data.count(b"\n") == asked.data.count(b"\r\n")
    assert asked.data.count(b"\r\n") <= len(fields) + 3


def test_the_bytes_are_those_that_the_proxys_own_parser_reads() -> None:
    head = RequestParser(Limits()).parse(Question.of("http://Shop.example:81/a/../b?c", "PUT", ["X-A: b"]).data)
    assert (head.method, head.host, head.path, head.target) == (b"PUT", b"shop.example", b"/b", b"/b?c")
