from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.affinity import CookieMaker
from portway_proxy.snapshot import Affinity, Endpoint

KEY = b"k" * 32
A, B = Endpoint("10.0.0.1", 80), Endpoint("10.0.0.2", 80)


def maker(key: bytes = KEY, upstream: str = "shop/web:80", affinity: Affinity | None = None) -> CookieMaker:
    return CookieMaker(affinity or Affinity(), key, upstream)


def test_a_value_is_the_same_for_whoever_has_the_key() -> None:
    assert maker().value(A) == maker().value(Endpoint("10.0.0.1", 80, "zone-a", ("zone-a",)))


@given(st.binary(min_size=1, max_size=40), st.text(max_size=20))
def test_a_value_is_opaque_text_of_one_length(key: bytes, upstream: str) -> None:
    value = maker(key, upstream).value(A)
    assert re.fullmatch(rb"[A-Za-z0-9_-]{22}", value)
    assert b"10.0.0.1" not in value


def test_key_upstream_and_endpoint_all_matter() -> None:
    values = {
        maker().value(A),
        maker().value(B),
        maker().value(Endpoint("10.0.0.1", 81)),
        maker(b"other").value(A),
        maker(upstream="shop/web:81").value(A),
    }
    assert len(values) == 5


def test_nothing_that_is_appended_to_one_part_looks_like_the_other() -> None:
    assert maker(upstream="a").value(Endpoint("b", 1)) != maker(upstream="a\0b:1").value(Endpoint("", 1))
    assert maker(upstream="shop/web:8").value(Endpoint("0", 1)) != maker(upstream="shop/web:80").value(Endpoint("", 1))


def test_the_field_is_a_line_with_what_the_service_asks_for() -> None:
    assert maker().field(b"v", tls=False) == b"Set-Cookie: portway=v; Path=/; HttpOnly; SameSite=Lax\r\n"
    assert maker().field(b"v", tls=True) == b"Set-Cookie: portway=v; Path=/; HttpOnly; SameSite=Lax; Secure\r\n"
    affinity = Affinity("route", "/a", "shop.example", 60, "", secure=False)
    assert maker(affinity=affinity).field(b"v", tls=True) == (
        b"Set-Cookie: route=v; Path=/a; Domain=shop.example; Max-Age=60; HttpOnly\r\n"
    )
    assert maker(affinity=Affinity(secure=True)).field(b"v", tls=False).endswith(b"; Secure\r\n")
