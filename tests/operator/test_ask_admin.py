"""`ask_admin.py`: what an admin server answers, and what is said when it does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import typer

from portway_operator.ask_admin import ask


class Handler(BaseHTTPRequestHandler):
    """Answers as its path says."""

    def do_GET(self) -> None:
        """Answer."""
        status, kind, body = {
            "/numbers": (200, "application/json", b'["%b"]' % self.path.encode()),
            "/token": (200, "application/json", b'["%b"]' % self.headers.get("Authorization", "").encode()),
            "/away": (404, "text/plain; charset=utf-8", b"generation 3 is not kept\nmore\n"),
            "/page": (502, "text/html", b"<html>"),
        }.get(self.path.partition("?")[0], (200, "application/json", b"{"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def admin() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def refusal(admin: str, path: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(typer.Exit) as ended:
        ask(admin, path, list[str])
    assert ended.value.exit_code == 1
    return capsys.readouterr().err.replace(admin, "ADMIN")


def test_the_question_goes_to_the_path_in_order_and_asks_for_json(admin: str) -> None:
    query = [("header", "A: 1"), ("header", "B: 2")]
    assert ask(admin, "/numbers", list[str], query) == ["/numbers?header=A:+1&header=B:+2&format=json"]


def test_a_refusal_is_told_in_its_own_words(admin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(admin, "/away", capsys) == "portway: ADMIN does not say: generation 3 is not kept\n"


def test_a_page_is_no_word(admin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(admin, "/page", capsys) == "portway: ADMIN does not say: 502 Bad Gateway\n"


def test_json_of_another_form_is_no_answer(admin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not say: Expected `array`, got `object`" in refusal(admin, "/broken", capsys)


def test_the_token_of_the_file_goes_before_that_of_the_environment(
    admin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask(admin, "/token", list[str]) == [""]
    monkeypatch.setenv("PORTWAY_ADMIN_TOKEN", "of-the-environment")
    assert ask(admin, "/token", list[str]) == ["Bearer of-the-environment"]
    (tmp_path / "token").write_text("of-the-file\n")
    assert ask(admin, "/token", list[str], (), tmp_path / "token") == ["Bearer of-the-file"]


def test_a_file_without_a_token_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        ask("http://127.0.0.1:1", "/", list[str], (), tmp_path / "none")
    assert "none cannot be read: No such file or directory" in capsys.readouterr().err


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        admin = f"http://127.0.0.1:{bound.getsockname()[1]}"
        assert "Cannot connect" in refusal(admin, "/numbers", capsys)
