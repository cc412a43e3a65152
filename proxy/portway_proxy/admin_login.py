"""Signing in with a browser, which cannot show a token with each request: it gets a session in its place."""

from __future__ import annotations

import asyncio
import html
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable

__all__ = ["LOGIN_PATH", "STYLE_PATH", "Sessions", "login_page", "login_style", "sign_in"]

LOGIN_PATH: Final = "/login"
"""Where a browser shows a token once."""

STYLE_PATH: Final = "/login.css"
"""How that page looks: the dashboard's own files are for those who have signed in."""

# Relative, as is all that is written here: somebody in between may have put a path before ours.
_HOME: Final = "dashboard/"
_COOKIE: Final = "portway-session"
_LIFETIME: Final = 8 * 3600.0
_MOST: Final = 256
_FORM: Final = 8 << 10  # Bytes of a form; a token of a service account has about one KiB.
_SECONDS: Final = 10.0
_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Sign in to Portway</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="login.css">
<main>
<h1>Portway</h1>
<form method="post" action="login">
<p><label for="token">Token</label></p>
<p><input id="token" name="token" type="password" autocomplete="off" required autofocus></p>
<p role="alert">{said}</p>
<p><button>Sign in</button></p>
</form>
</main>
</html>
"""
_STYLE: Final = """:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { display: grid; min-height: 90vh; place-items: center; margin: 1rem }
main { width: min(24rem, 100%) }
input, button { box-sizing: border-box; width: 100%; padding: 0.5rem; font: inherit }
[role="alert"] { min-height: 1.5em }
"""


@dataclass(frozen=True, slots=True)
class _Session:
    token: str
    peer: str
    until: float


class Sessions:
    """Which token was shown by whom: in memory alone, each for eight hours, and good at the address it began at.

    The token is asked about again with each request: a session ends with its token.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def begin(self, token: str, peer: str) -> str:
        """Return the name of a new session, which nobody can guess; the oldest of too many ends."""
        now = time.monotonic()
        self._sessions = {name: one for name, one in self._sessions.items() if one.until > now}
        while len(self._sessions) >= _MOST:
            del self._sessions[next(iter(self._sessions))]
        name = secrets.token_urlsafe(32)
        self._sessions[name] = _Session(token, peer, now + _LIFETIME)
        return name

    def token(self, request: web.Request, peer: str) -> str:
        """Return the token of the session that the request's cookie names; empty when there is none."""
        session = self._sessions.get(request.cookies.get(_COOKIE, ""))
        if session is None or session.peer != peer or session.until <= time.monotonic():
            return ""
        return session.token


def login_page(said: str = "", status: int = 200) -> web.Response:
    """Return the page with a field for the token; `said` is why the last one did not count."""
    return web.Response(text=_PAGE.format(said=html.escape(said)), status=status, content_type="text/html")


def login_style() -> web.Response:
    """Return that page's style."""
    return web.Response(text=_STYLE, content_type="text/css")


async def sign_in(request: web.Request, begin: Callable[[str], Awaitable[str]]) -> web.Response:
    """Return the answer to a form with a token; `begin` returns the session's name for it, or raises as `verify`."""
    try:
        name = await begin(await _token(request))
    except TokenRefused as error:
        return login_page(str(error), error.status)
    except TokenUnknowable as error:
        return login_page(str(error), 503)
    response = web.Response(status=303, headers={hdrs.LOCATION: _HOME})
    response.set_cookie(_COOKIE, name, httponly=True, samesite="Strict", path="/")
    return response


async def _token(request: web.Request) -> str:
    if (request.content_length or 0) > _FORM:
        raise TokenRefused("This is no token: it is too long.", 413)
    try:
        async with asyncio.timeout(_SECONDS):
            form = await request.post()
    except (TimeoutError, ValueError):
        raise TokenRefused("This is no form with a token.", 400) from None
    shown = form.get("token", "")
    return shown.strip() if isinstance(shown, str) else ""
