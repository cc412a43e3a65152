from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator

import pytest

from portway_proxy.openssl import TICKET_KEY, OpenSsl, openssl


@pytest.fixture(autouse=True)
def _anew() -> Iterator[None]:
    openssl.cache_clear()
    yield
    openssl.cache_clear()


def test_the_library_that_python_uses_is_reached_and_tried_out() -> None:
    assert OpenSsl().works()
    assert isinstance(openssl(), OpenSsl)


def test_a_library_without_a_function_is_left_alone_with_a_line_that_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Lacking:
        def __init__(self, _: object) -> None: ...

    monkeypatch.setattr("ctypes.CDLL", Lacking)
    assert openssl() is None
    assert "each worker resumes its own TLS sessions only" in caplog.text


def test_a_library_that_does_not_take_what_it_is_given_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(OpenSsl, "set_ticket_key", lambda *_: None)
    caplog.set_level(logging.WARNING)
    assert openssl() is None
    assert "not where it is looked for" in caplog.text


def test_curves_that_there_are_not_are_refused() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found = openssl()
    assert found is not None
    assert found.set_curves(context, "X25519:prime256v1")
    assert not found.set_curves(context, "X25519:none-such")
    found.set_ticket_key(context, b"k" * TICKET_KEY)
