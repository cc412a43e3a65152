from __future__ import annotations

from http import HTTPStatus

import h11
import pytest

from portway_proxy import errors
from portway_proxy.errors import ProxyError
from portway_proxy.l7.replies import SIGNATURE, redirect, reply


def read(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    """Return the response in `data` and its body, as h11 reads them."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data[0] == b""
    return response, body


def statuses() -> list[int]:
    """Return every status that an error may ask for."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    return sorted({kind.status for kind in kinds if isinstance(kind, type) and issubclass(kind, ProxyError)} | {308})


def test_a_reply_is_a_whole_response() -> None:
    assert reply(503, SIGNATURE + b"X-Request-ID: id\r\n", bodiless=False) == (
        b"HTTP/1.1 503 Service Unavailable\r\nServer: portway\r\nX-Request-ID: id\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 24\r\n\r\n503 Service Unavailable\n"
    )


def test_not_found_says_what_the_default_backend_of_ingress_nginx_said() -> None:
    response, body = read(reply(404, b"", bodiless=False))
    assert (response.status_code, body) == (404, b"default backend - 404")


@pytest.mark.parametrize("status", statuses())
def test_every_status_that_we_answer_is_read_back(status: int) -> None:
    response, body = read(reply(status, b"Connection: close\r\n", bodiless=False))
    assert response.status_code == status
    assert body
    if status in set(HTTPStatus):
        assert response.reason == HTTPStatus(status).phrase.encode()


def test_an_answer_to_head_announces_its_body_and_leaves_it_out() -> None:
    response, body = read(reply(502, b"", bodiless=True), "HEAD")
    assert (b"content-length", b"16") in response.headers
    assert body == b""


@pytest.mark.parametrize(
    ("host", "target", "port", "location"),
    [
        (b"shop.example", b"/a?b=c", 443, b"https://shop.example/a?b=c"),
        (b"shop.example", b"/", 8443, b"https://shop.example:8443/"),
        (b"[::1]", b"/", 8443, b"https://[::1]:8443/"),
    ],
)
def test_a_redirect_names_the_port_unless_it_is_that_of_https(
    host: bytes, target: bytes, port: int, location: bytes
) -> None:
    assert redirect(host, target, port) == b"Location: " + location + b"\r\n"
