from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.parse import (
    PortMapping,
    boolean,
    cookie_domain,
    cookie_path,
    count,
    endpoints,
    field_name,
    hash_on,
    host,
    methods,
    networks,
    one_of,
    port_mappings,
    ports,
    seconds,
    size,
    statuses,
    target,
    token,
)
from portway_proxy.snapshot import Balance, Endpoint, HashOn, HashSource

PARSERS: list[Callable[[str], object]] = [
    boolean,
    cookie_domain,
    cookie_path,
    count(0, 10),
    endpoints,
    field_name,
    hash_on,
    host,
    methods,
    networks,
    one_of(Balance),
    port_mappings,
    ports,
    seconds(0, 10),
    size,
    statuses,
    target,
    token,
]


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_true_is_what_go_takes_for_it(word: str) -> None:
    assert boolean(word) is True


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False"])
def test_false_is_what_go_takes_for_it(word: str) -> None:
    assert boolean(word) is False


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0", 0), ("1", 1), ("512b", 512), ("8k", 8192), ("8K", 8192), ("1m", 1 << 20), ("2G", 2 << 30)],
)
def test_a_size_has_nginx_units(text: str, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5m", "1 m", "8Mi", "1_000", "\u0661", "9" * 16, "1\n"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size"):
        size(text)


def test_ports_come_by_number_or_name_and_in_order() -> None:
    assert ports("5432,metrics , 80") == (5432, "metrics", 80)


def test_a_mapping_names_the_port_that_is_opened_and_the_one_behind_it() -> None:
    assert port_mappings("5432, 6380:6379, 9000:metrics") == (
        PortMapping(5432, 5432),
        PortMapping(6380, 6379),
        PortMapping(9000, "metrics"),
    )


@pytest.mark.parametrize(
    "text", ["", ",", "80,", "0", "65536", "http:80", "80:", ":80", "80:81:82", "8 0", "-1", "080"]
)
def test_what_is_no_port_mapping_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="port"):
        port_mappings(text)


def test_endpoints_are_sorted_and_each_once() -> None:
    assert endpoints("127.0.0.1:5001,127.0.0.1:5000, [::1]:5000, 127.0.0.1:5000") == (
        Endpoint("127.0.0.1", 5000),
        Endpoint("127.0.0.1", 5001),
        Endpoint("::1", 5000),
    )


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1", "localhost:80", "::1:80", "[127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "300.0.0.1:80"]
)
def test_what_is_no_address_with_a_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        endpoints(text)


def test_a_choice_is_one_of_the_enumeration() -> None:
    assert one_of(Balance)("random") is Balance.RANDOM
    with pytest.raises(ValueError, match="none of round-robin, random"):
        one_of(Balance)("fair")


@given(st.sampled_from(PARSERS), st.text(max_size=40))
def test_no_text_raises_anything_but_a_value_error(parse: Callable[[str], object], text: str) -> None:
    said = "something"
    try:
        parse(text)
    except ValueError as error:
        said = str(error)
    assert said
    assert said.isprintable()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("5s", 5.0),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("0", 0.0),
    ],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, expected: float) -> None:
    assert seconds(0, 1e6)(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "s", "-1s", "5 s", "5S", "1e3", "\u0665s", "5s5ms", "1_0s", "inf", "9" * 10])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        seconds(0, 1e6)(text)


def test_a_time_and_a_number_have_bounds() -> None:
    assert seconds(1, 2)("2s") == 2.0
    for text in ("999ms", "2001ms"):
        with pytest.raises(ValueError, match="not from 1s to 2s"):
            seconds(1, 2)(text)
    assert count(1, 9)("9") == 9
    for text in ("0", "10", "", "-1", "1.0", "+1", "\u0661"):
        with pytest.raises(ValueError, match="no whole number from 1 to 9"):
            count(1, 9)(text)


def test_statuses_and_methods_are_sorted_and_each_once() -> None:
    assert statuses("503, 502,503") == (502, 503)
    assert methods("put, GET,Put") == ("GET", "PUT")


@pytest.mark.parametrize("text", ["", "200", "5xx", "600", "503 502", "503,"])
def test_what_is_no_error_status_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no status"):
        statuses(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source-address", HashOn(HashSource.ADDRESS)),
        ("uri", HashOn(HashSource.URI)),
        ("header:X-User", HashOn(HashSource.HEADER, "X-User")),
        ("cookie:session", HashOn(HashSource.COOKIE, "session")),
    ],
)
def test_a_hash_is_taken_of_what_is_named(text: str, expected: HashOn) -> None:
    assert hash_on(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["", "header", "cookie", "uri:x", "source-address:", "header:", "header:a b", "body"])
def test_what_no_hash_can_be_taken_of_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"it is none of|no name"):
        hash_on(text)


@pytest.mark.parametrize("parse", [token, target, host, cookie_path, cookie_domain, hash_on])
@pytest.mark.parametrize("bad", ["\r", "\n", " ", "\0", "\x7f", "\u00e4", "\u2028"])
def test_nothing_that_reaches_a_head_ends_a_line_or_begins_another_part(
    parse: Callable[[str], object], bad: str
) -> None:
    for text in (f"/a{bad}b", f"a{bad}b", f"header:a{bad}b", f"/a{bad}", f"a{bad}"):
        with pytest.raises(ValueError, match=r"no |none of"):
            parse(text)


def test_a_cookie_path_holds_no_attribute() -> None:
    assert cookie_path("/shop/a=b") == "/shop/a=b"
    with pytest.raises(ValueError, match="no path"):
        cookie_path("/;Secure")


def test_names_of_hosts_are_taken_as_they_are_and_domains_in_their_one_form() -> None:
    assert host("Shop.example:8080") == "Shop.example:8080"
    assert target("/healthz?deep=1") == "/healthz?deep=1"
    assert cookie_domain(".Shop.example") == "shop.example"
    for text in ("", "-a", "a..b/", "a:b", "a:123456"):
        with pytest.raises(ValueError, match="no host name"):
            host(text)


def test_networks_are_sorted_and_each_once_in_one_form() -> None:
    assert networks("192.0.2.7,10.1.2.3/8, 10.0.0.0/8,,2001:DB8::1/32") == (
        "10.0.0.0/8",
        "192.0.2.7/32",
        "2001:db8::/32",
    )
    assert networks("") == ()


@pytest.mark.parametrize(
    "text", ["10.0.0.0/33", "shop.example", "10.0.0", "1", "10.0.0.0/8 10.0.0.0/8", "fe80::1%eth0/64/"]
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no network such as"):
        networks(text)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "x-real-ip", "Forwarded", "CF-Connecting-IP", "True-Client-IP"])
def test_a_field_that_says_the_client_is_taken_as_it_is_written(name: str) -> None:
    assert field_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "X_Real_IP",
        "X.Real.IP",
        "X-Real-IP:",
        "X-Real-IP\r\nHost",
        "-",
        "x" * 65,
        "Host",
        "HOST",
        "Connection",
        "Content-Length",
        "Transfer-Encoding",
        "TE",
        "Proxy-Connection",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Format",
        "X-Request-ID",
        "Cookie",
    ],
)
def test_a_field_that_means_something_else_does_not_say_the_client(name: str) -> None:
    with pytest.raises(ValueError, match=r"no name of|means something else"):
        field_name(name)
