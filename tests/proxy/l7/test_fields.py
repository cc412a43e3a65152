from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.l7.fields import RequestRole, ResponseRole, request_role, response_role, tokens

MANAGED = [
    b"Content-Length",
    b"Transfer-Encoding",
    b"X-Request-ID",
    b"User-Agent",
    b"X-Forwarded-For",
    b"X-Forwarded-Host",
    b"X-Real-IP",
    b"X-Scheme",
    b"Proxy-Connection",
]
MARKS = "!#$%&'*+.^_`|~"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (b"Host", RequestRole.HOST),
        (b"CONTENT-length", RequestRole.LENGTH),
        (b"transfer-encoding", RequestRole.CODING),
        (b"Connection", RequestRole.CONNECTION),
        (b"Upgrade", RequestRole.UPGRADE),
        (b"Expect", RequestRole.EXPECT),
        (b"X-Request-Id", RequestRole.REQUEST_ID),
        (b"Referer", RequestRole.REFERER),
        (b"User-Agent", RequestRole.AGENT),
        (b"Keep-Alive", RequestRole.DROP),
        (b"Proxy-Connection", RequestRole.DROP),
        (b"TE", RequestRole.TE),
        (b"Trailer", RequestRole.DROP),
        (b"Forwarded", RequestRole.DROP),
        (b"Proxy", RequestRole.DROP),
        (b"X-Real-IP", RequestRole.DROP),
        (b"X-Forwarded-Whatever", RequestRole.DROP),
        (b"X-Scheme", RequestRole.DROP),
        (b"HTTP2-Settings", RequestRole.DROP),
        (b"Any_Thing", RequestRole.DROP),
        (b"_", RequestRole.DROP),
        (b"Accept", RequestRole.PASS),
        (b"Authorization", RequestRole.SINGLE),
        (b"Proxy-Authorization", RequestRole.PASS),
        (b"X.Custom", RequestRole.PASS),
        (b"X-Forwarded", RequestRole.PASS),
        (b"Hosts", RequestRole.PASS),
    ],
)
def test_a_request_field_has_its_role_in_any_case(name: bytes, role: RequestRole) -> None:
    assert request_role(name) is role
    assert request_role(name.upper()) is role
    assert request_role(name.lower()) is role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (b"Content-Length", ResponseRole.LENGTH),
        (b"transfer-ENCODING", ResponseRole.CODING),
        (b"Connection", ResponseRole.CONNECTION),
        (b"Upgrade", ResponseRole.UPGRADE),
        (b"Server", ResponseRole.SERVER),
        (b"Date", ResponseRole.DATE),
        (b"Keep-Alive", ResponseRole.DROP),
        (b"Proxy-Connection", ResponseRole.DROP),
        (b"Trailer", ResponseRole.DROP),
        (b"Set-Cookie", ResponseRole.PASS),
        (b"Any_Thing", ResponseRole.PASS),
        (b"X-Request-ID", ResponseRole.PASS),
    ],
)
def test_a_response_field_has_its_role_in_any_case(name: bytes, role: ResponseRole) -> None:
    assert response_role(name) is role
    assert response_role(name.lower()) is role


@given(st.sampled_from(MANAGED), st.data())
def test_no_alias_of_a_managed_field_passes(name: bytes, data: st.DataObject) -> None:
    marks = st.sampled_from(MARKS + "-")
    alias = "".join(data.draw(marks) if sign == "-" else sign for sign in name.decode()).encode()
    assert request_role(alias) is (request_role(name) if alias == name else RequestRole.DROP)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, X-Foo", [b"keep-alive", b"x-foo"]),
        (b" ,\t,a ,,b,", [b"a", b"b"]),
        (b"a b", [b"a", b"b"]),
        (b"\xe2\x84\xaa", []),
    ],
)
def test_a_list_is_its_tokens(value: bytes, found: list[bytes]) -> None:
    assert tokens(value) == found
