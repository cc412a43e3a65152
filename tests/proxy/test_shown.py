from __future__ import annotations

import pytest

from portway_proxy.shown import distinguished_name


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((), b""),
        (((("countryName", "DE"),), (("commonName", "alice"),)), b"CN=alice,C=DE"),
        (((("commonName", "a"), ("userId", "7")),), b"CN=a+UID=7"),
        (((("organizationName", "Shop, Inc"),),), b"O=Shop\\, Inc"),
        (((("commonName", '+"\\<>;'),),), b'CN=\\+\\"\\\\\\<\\>\\;'),
        (((("commonName", " a "),),), b"CN=\\ a\\ "),
        (((("commonName", "#a#"),),), b"CN=\\#a#"),
        (((("commonName", "a\r\nX: y\0"),),), b"CN=a\\0D\\0AX: y\\00"),
        (((("commonName", "\xfc"),),), b"CN=\\C3\\BC"),
        (((("2.5.4.97", "x"),),), b"2.5.4.97=x"),
    ],
)
def test_a_name_is_told_as_nginx_does_and_ends_no_line(
    parts: tuple[tuple[tuple[str, str], ...], ...], text: bytes
) -> None:
    assert distinguished_name(parts) == text
