"""Who may see the pages of an admin server: this machine, and whoever shows a token.

Probes are for everybody who reaches the port, and so are metrics unless they are protected. Browsers are kept from
reading pages for other sites: by Host (RFC 9110, 7.2; names that lead here are of anybody's making), Origin and
`Sec-Fetch-Site`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from portway_proxy.admin_login import LOGIN_PATH, STYLE_PATH, Sessions, login_page, login_style, sign_in
from portway_proxy.admin_tokens import TokenFile, TokenRefused, TokenUnknowable, Verifier
from portway_proxy.networks import parse_address
from portway_proxy.settings import AdminAccess

__all__ = ["CONTENT_POLICY", "TOKEN_FIELD", "Access", "AccessRules"]

TOKEN_FIELD: Final = "X-Portway-Token"  # noqa: S105 - a name
"""Where a token may be too: an API server in between keeps the Authorization field for itself."""

CONTENT_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
"""What a page may load and do: nothing but its own."""

_FIELDS: Final = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With none at all browsers send the login form with `Origin: null` (the Fetch standard has it so).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_NO_STORE: Final = "no-store"
_PROBES: Final = frozenset({"/healthz", "/livez", "/readyz"})
_OF_LOGIN: Final = frozenset({LOGIN_PATH, STYLE_PATH})
_METRICS: Final = "/metrics"
_BEARER: Final = "bearer "
_ASKING: Final = 'Bearer realm="portway"'
# Sidecars of Istio hand on what came from elsewhere from this address.
_MESH: Final = "127.0.0.6"
# What somebody in between adds: then the connection is from here, and the request is not.
_HANDED_ON: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP", "X-Forwarded-Client-Cert", "L5d-Client-Id")
# Seconds until a wrong token is answered: nobody guesses fast, and nobody else waits.
_PENALTY: Final = 0.5
# Seconds: a stream goes on for as long as somebody reads, and asks whether its token still counts when it begins anew.
_LONGEST: Final = 900.0

_WRONG_HOST: Final = (
    "This server does not go by the name in the Host field: "
    "ask for localhost or an address, or name it with --admin-hosts."
)

_ALONE: Final = (
    "This page is for this machine alone: "
    "use kubectl port-forward or ssh -L, or give the server a token with --admin-token-file."
)

# Of a request that came with a token that counts.
_PROVED: Final = web.RequestKey("proved", bool)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class AccessRules:
    """What lets somebody in, who is not this machine: any one of the `verifiers`.

    hosts: names that a request from this machine may be for, beside `localhost`. protect_metrics: whether metrics need
    the same as the other pages. penalty: seconds until a token that does not count is answered. longest: seconds that
    an answer to a token may take, as it may count no more.
    """

    verifiers: Sequence[Verifier] = ()
    hosts: Collection[str] = ()
    protect_metrics: bool = False
    penalty: float = _PENALTY
    longest: float = _LONGEST

    @classmethod
    def of(cls, settings: AdminAccess, verifier: Verifier | None = None) -> AccessRules:
        """Return what settings come to, with another who knows tokens."""
        verifiers: list[Verifier] = [TokenFile(Path(settings.token_file))] if settings.token_file else []
        verifiers += [] if verifier is None else [verifier]
        return cls(verifiers, settings.hosts, protect_metrics=settings.protect_metrics)


class Access:
    """Guards an application of aiohttp by `rules`, and gives its answers the fields that browsers heed."""

    def __init__(self, rules: AccessRules | None = None) -> None:
        self._rules = rules or AccessRules()
        self._hosts = frozenset({"localhost", *(name.lower() for name in self._rules.hosts)})
        self._verifiers = list(self._rules.verifiers)
        self._sessions = Sessions()

    def trust(self, verifier: Verifier) -> None:
        """Let those in, too, whose tokens this one knows."""
        self._verifiers.append(verifier)

    def guard(self, app: web.Application) -> None:
        """Have every request to `app` pass here first."""
        app.middlewares.append(self._admit)
        app.on_response_prepare.append(_add_fields)
        app.router.add_get(LOGIN_PATH, _login_page)
        app.router.add_get(STYLE_PATH, _login_style)
        app.router.add_post(LOGIN_PATH, self._sign_in)

    @web.middleware
    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        if _PROVED not in request or request.transport is None:
            return await handler(request)
        end = asyncio.get_running_loop().call_later(self._rules.longest, request.transport.abort)
        try:
            return await handler(request)
        finally:
            end.cancel()

    async def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer to a request that may not go on, or None."""
        page = _page(request)
        signing_in = request.method == hdrs.METH_POST and page == LOGIN_PATH
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD) and not signing_in:
            return _say(405, "The pages of this server are read, and nothing else.", {hdrs.ALLOW: "GET, HEAD"})
        if page in _PROBES:
            return None
        if _of_another_site(request):
            return _say(403, "This server answers no other site's pages.")
        if _from_here(request):
            host = _host(request)
            address = parse_address(host)
            if address is None and host not in self._hosts:
                return _say(421, _WRONG_HOST)
            # By another address than its own it was not asked from here, but by way of somebody who hands on.
            if address is None or address.is_loopback:
                return None
        if page in _OF_LOGIN or (page == _METRICS and not self._rules.protect_metrics):
            return None
        return await self._unproven(request)

    async def _unproven(self, request: web.Request) -> web.StreamResponse | None:
        """Return the answer to a request from elsewhere that proves nothing, or None."""
        if not self._verifiers:
            return _say(403, _ALONE)
        token = _shown(request) or self._sessions.token(request, _peer(request))
        if not token:
            return _to_login(request) or _challenge("A token is needed: Authorization: Bearer TOKEN.")
        try:
            await self._verify(token)
        except TokenRefused as error:
            if error.status != 401:
                return _say(error.status, str(error))
            # A session whose token no longer counts begins again where it began.
            return _to_login(request) or _challenge(str(error), ', error="invalid_token"')
        except TokenUnknowable as error:
            return _say(503, str(error))
        request[_PROVED] = True
        return None

    async def _verify(self, token: str) -> None:
        """Return when the token counts for one who knows tokens. Raises as `Verifier.verify` does."""
        refused = TokenRefused("No token of this server's counts.")
        unknowable: TokenUnknowable | None = None
        for verifier in self._verifiers:
            try:
                await verifier.verify(token)
            except TokenRefused as error:
                # Who is known and may not is told that, and not that somebody else does not know them.
                refused = error if refused.status == 401 else refused
            except TokenUnknowable as error:
                unknowable = error
            else:
                return
        if unknowable is not None and refused.status == 401:
            raise unknowable
        await asyncio.sleep(self._rules.penalty)
        raise refused

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        async def begin(token: str) -> str:
            await self._verify(token)
            return self._sessions.begin(token, _peer(request))

        return await sign_in(request, begin)


def _say(status: int, sentence: str, fields: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=f"{sentence}\n", status=status, headers=fields)


def _challenge(sentence: str, more: str = "") -> web.Response:
    """Return what asks for a token (RFC 6750, 3)."""
    return _say(401, sentence, {hdrs.WWW_AUTHENTICATE: _ASKING + more})


def _to_login(request: web.Request) -> web.Response | None:
    """Return what leads a person's browser to the login page; None for programs, and for what a page asks."""
    if "text/html" not in request.headers.get(hdrs.ACCEPT, ""):
        return None
    # Relative: somebody in between may have put a path before ours.
    up = "../" * (request.path.count("/") - 1)
    return web.Response(status=303, headers={hdrs.LOCATION: up + LOGIN_PATH[1:]})


async def _login_page(_request: web.Request) -> web.Response:
    return login_page()


async def _login_style(_request: web.Request) -> web.Response:
    return login_style()


async def _add_fields(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in _FIELDS.items():
        response.headers[name] = value
    # Files of the package may be kept, and say so themselves.
    response.headers.setdefault(hdrs.CACHE_CONTROL, _NO_STORE)


def _page(request: web.Request) -> str:
    """Return which page answers, as it was added; empty for none. Never what a client writes."""
    resource = request.match_info.route.resource
    return "" if resource is None else resource.canonical


def _peer(request: web.Request) -> str:
    """Return the address at the other end of the connection, whatever the request says."""
    name = request.transport.get_extra_info("peername") if request.transport is not None else None
    return str(name[0]) if name else ""


def _from_here(request: web.Request) -> bool:
    """Return whether a process of this machine asks, for itself."""
    address = parse_address(_peer(request))
    if address is None or not address.is_loopback or str(address) == _MESH:
        return False
    return not any(name in request.headers for name in _HANDED_ON)


def _of_another_site(request: web.Request) -> bool:
    """Return whether a page of another origin has a browser ask; that a person follows a link is no such thing."""
    fields = request.headers
    origin = fields.get(hdrs.ORIGIN)
    if origin is not None and urlsplit(origin).netloc.lower() != fields.get(hdrs.HOST, "").lower():
        return True
    if fields.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return False
    followed = fields.get("Sec-Fetch-Mode") == "navigate" and fields.get("Sec-Fetch-Dest") == "document"
    return not (followed and request.method == hdrs.METH_GET)


def _host(request: web.Request) -> str:
    """Return the name or the address that the request is for, without a port; empty when it says none, or two."""
    fields = request.headers.getall(hdrs.HOST, [])
    host = fields[0] if len(fields) == 1 else ""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def _shown(request: web.Request) -> str:
    """Return the token that comes with the request itself."""
    field = request.headers.get(hdrs.AUTHORIZATION, "")
    if field[: len(_BEARER)].lower() == _BEARER:
        return field[len(_BEARER) :].strip()
    return request.headers.get(TOKEN_FIELD, "").strip()
