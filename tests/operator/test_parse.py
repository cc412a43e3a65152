from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_operator.parse import PortMapping, boolean, endpoints, one_of, port_mappings, ports, size
from portway_proxy.snapshot import Balance, Endpoint

PARSERS: list[Callable[[str], object]] = [boolean, endpoints, one_of(Balance), port_mappings, ports, size]


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
