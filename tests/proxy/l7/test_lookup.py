from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.l7.lookup import cookie, field

LINES = [b"X-User: ann\r\n", b"x-user: bob\r\n", b"X-Users: all\r\n", b"Empty: \r\n"]


@pytest.mark.parametrize(
    ("name", "value"), [(b"x-user", b"ann"), (b"x-users", b"all"), (b"empty", b""), (b"x", None), (b"user", None)]
)
def test_a_field_is_found_by_its_name_in_any_case_and_the_first_one_counts(name: bytes, value: bytes | None) -> None:
    assert field(LINES, name) == value


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ([b"Cookie: a=1\r\n"], b"1"),
        ([b"cookie: a=1\r\n"], b"1"),
        ([b"Cookie: b=2; a=1\r\n"], b"1"),
        ([b"Cookie: b=2;a=1;c=3\r\n"], b"1"),
        ([b"Cookie: b=2\r\n", b"Cookie: a=1\r\n"], b"1"),
        ([b"Cookie: a=1; a=2\r\n"], b"1"),
        ([b'Cookie: a="1"\r\n'], b'"1"'),
        ([b"Cookie: a=1=2\r\n"], b"1=2"),
        ([b"Cookie: a=\r\n"], b""),
        ([b"Cookie: aa=1; xa=2; A=3\r\n"], None),
        ([b"Cookie: a\r\n"], None),
        ([b"Cookie: b=a=1\r\n"], None),
        ([b"Cookie: \r\n"], None),
        ([b"X-Cookie: a=1\r\n"], None),
        ([], None),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(lines: list[bytes], value: bytes | None) -> None:
    assert cookie(lines, b"a") == value


@given(st.lists(st.binary(max_size=30).map(lambda value: b"Cookie: " + value + b"\r\n"), max_size=4))
def test_whatever_a_client_sends_is_a_cookie_or_none(lines: list[bytes]) -> None:
    found = cookie(lines, b"a")
    assert found is None or any(b"a=" + found in line for line in lines)
