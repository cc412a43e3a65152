from __future__ import annotations

import pytest

from portway_proxy.clock import NEVER
from portway_proxy.l7.grpc import is_grpc, timeout_of


@pytest.mark.parametrize(
    ("kind", "so"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"Application/GRPC", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/grpcs", False),
        (b"application/json", False),
        (b"", False),
    ],
)
def test_the_content_type_tells_grpc_from_everything_else(kind: bytes, so: bool) -> None:
    assert is_grpc([b"accept: x\r\n", b"content-type: %b\r\n" % kind]) is so


def test_without_a_content_type_it_is_none() -> None:
    assert not is_grpc([b"accept: x\r\n"])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"2H", 7200.0),
        (b"3M", 180.0),
        (b"5S", 5.0),
        (b"100m", 0.1),
        (b"250000u", 0.25),
        (b"1000000n", 0.001),
        (b"99999999S", 99_999_999.0),
        (b"999999999S", NEVER),
        (b"5", NEVER),
        (b"S", NEVER),
        (b"-1S", NEVER),
        (b"1.5S", NEVER),
        (b"5s", NEVER),
        (b"", NEVER),
    ],
)
def test_a_timeout_is_as_grpc_spells_it_and_anything_else_is_none(value: bytes, seconds: float) -> None:
    assert timeout_of([b"grpc-timeout: %b\r\n" % value]) == pytest.approx(seconds)


def test_without_a_timeout_a_call_has_all_the_time() -> None:
    assert timeout_of([]) == NEVER
