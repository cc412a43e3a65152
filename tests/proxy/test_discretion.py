from __future__ import annotations

import pytest

from portway_proxy.discretion import discreet_fields, discreet_head, discreet_text, discreet_url

SECRET = """
Authorization cookie Proxy-Authorization X-Api-Key X-Auth-Token X-Session Set-Cookie X-Secret X-Password ssl-client-cert
X-Amz-Security-Token X-Hub-Signature
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_a_field_that_is_called_like_a_secret_is_not_shown(name: str) -> None:
    assert discreet_fields([(name, "s3cret")]) == ((name, "..."),)
    assert "s3cret" not in discreet_head(f"GET / HTTP/1.1\r\n{name}: s3cret\r\n\r\n".encode())


@pytest.mark.parametrize(
    "name", ["Host", "Accept", "X-Request-ID", "X-Code", "WWW-Authenticate", "Access-Control-Max-Age"]
)
def test_other_fields_are_shown(name: str) -> None:
    assert discreet_fields([(name, "value")]) == ((name, "value"),)


def test_parameters_of_urls_are_left_out_by_their_names() -> None:
    assert discreet_url("/a?id=1&access_token=x&b=2;password=y#z") == "/a?id=1&access_token=...&b=2;password=...#z"
    assert discreet_url("https://shop.example/a?code=x") == "https://shop.example/a?code=..."


def test_urls_in_heads_are_left_as_they_are_but_for_secret_parameters() -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: https://sso/?token=x&rd=/a\r\nServer: portway\r\n\r\n"
    assert discreet_head(head).splitlines() == [
        "HTTP/1.1 302 Found",
        "Location: https://sso/?token=...&rd=/a",
        "Server: portway",
    ]
    assert discreet_head(b"GET /a?token=x HTTP/1.1\r\n\r\n") == "GET /a?token=... HTTP/1.1\n"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://shop.example/a?page=2&token=abc", "https://shop.example/a?page=2&token=..."),
        ("https://me:pw@shop.example/", "https://...@shop.example/"),
        ("//me@shop.example", "//...@shop.example"),
        ("/a?API_KEY=1;sig=2#x", "/a?API_KEY=...;sig=...#x"),
        ("/a?code=&q=mail@shop.example", "/a?code=&q=mail@shop.example"),
        ("https://shop.example/@me?rd=$escaped_request_uri", "https://shop.example/@me?rd=$escaped_request_uri"),
    ],
)
def test_a_url_is_shown_without_its_user_and_the_values_of_secrets(url: str, shown: str) -> None:
    assert discreet_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("'Authorization Bearer abc' is no field", "'Authorization ...' is no field"),
        ("'X-Api-Key:abc def' such as X-Frame-Options: DENY", "'X-Api-Key:...' such as X-Frame-Options: DENY"),
        ("'Set-Cookie: id=1'", "'Set-Cookie: ...'"),
        ("'ftp://u:p@h/?token=1' is no URL", "'ftp://...@h/?token=...' is no URL"),
        ("the annotation auth-url is no URL", "the annotation auth-url is no URL"),
    ],
)
def test_a_sentence_quotes_nothing_secret(text: str, shown: str) -> None:
    assert discreet_text(text) == shown
