"""External authentication: a service says whether a request may pass, in the forms of ingress-nginx's auth-url."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from portway_proxy.errors import ProxyError
from portway_proxy.l7 import flow
from portway_proxy.l7.errand import Errand
from portway_proxy.l7.exchange import PENDING
from portway_proxy.l7.passage import without_alike
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.target import canonical_path
from portway_proxy.l7.template import Template
from portway_proxy.l7.verdicts import Key, Verdict, Verdicts, verdict_of

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.live import LiveUpstream
    from portway_proxy.snapshot import ExternalAuth

__all__ = ["AskService"]

_URL = b"x-original-url"
_METHOD = b"x-original-method"
_SENT_FROM = b"x-sent-from"
_REDIRECT = b"x-auth-request-redirect"
_UNFIT = re.compile(rb"[^!-~]")


class AskService:
    """The step that lets through whom a service lets through; the client's own fields never pass for the service's.

    A service that cannot be asked, or that answers neither 2xx nor 401 nor 403, lets nobody through: its clients get
    500, as from nginx.
    """

    __slots__ = (
        "_asked",
        "_fields",
        "_host",
        "_key",
        "_names",
        "_ours",
        "_redirect",
        "_signin",
        "_target",
        "_verdicts",
    )

    def __init__(self, asked: ExternalAuth, verdicts: Verdicts) -> None:
        self._asked = asked
        self._verdicts = verdicts
        self._target = Template(asked.target)
        self._host = Template(asked.host)
        self._signin = Template(asked.signin)
        self._redirect = Template(asked.redirect)
        self._key = Template(asked.cache_key)
        self._fields = [(name.encode(), Template(value)) for name, value in asked.fields]
        added = {name.lower().encode() for name, _ in asked.fields}
        self._names = frozenset(name.encode() for name in asked.copied)
        self._ours = frozenset({_URL, _METHOD, _SENT_FROM, _REDIRECT} | added)

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request may go on now."""
        key = self._remembered_as(exchange) if self._key else None
        known = None if key is None else self._verdicts.recall(key, exchange.client.http.clock.now)
        if known is not None:
            return self._act(exchange, passage, known)
        upstream = self._upstream(exchange)
        if upstream is None:
            return _unavailable(exchange)
        errand = Errand(exchange.client, partial(self._decide, exchange, passage, key))
        errand.run(self._request(exchange), upstream)
        return False

    def _remembered_as(self, exchange: Exchange) -> Key | None:
        """Return what the verdict of a request is remembered by: its host and path's own, so that no other has it."""
        key, route = self._key.fill(exchange), exchange.route
        # Who shows nothing that tells clients apart is asked about each time.
        return (exchange.head.host, route.path, route.match, key) if key and route is not None else None

    def _upstream(self, exchange: Exchange) -> LiveUpstream | None:
        """Return where the service is; None where the host's own route asks something itself, or there is none."""
        live = exchange.client.http.worker.live
        if self._asked.upstream:
            return live.upstreams.get(self._asked.upstream)
        try:
            path = canonical_path(self._target.fill(exchange).partition(b"?")[0])
            route = live.table.match(exchange.head.host, path)
        except ProxyError:
            return None
        if route.policy is not None and route.policy.guards:
            return None
        return live.upstreams.get(route.upstream)

    def _request(self, exchange: Exchange) -> RequestHead:
        asked, ours = exchange.head, self._ours
        target = _UNFIT.sub(_quoted, self._target.fill(exchange))
        head = RequestHead(self._asked.method.encode(), target, 1)
        head.host = head.raw_host = _UNFIT.sub(b"", self._host.fill(exchange))
        head.forwarded_host = asked.forwarded_host or asked.raw_host or b""
        head.request_id = asked.request_id
        head.lines = asked.lines
        without_alike(head, ours)
        scheme = b"https" if exchange.secure else b"http"
        head.lines += [
            b"X-Original-URL: %b://%b%b\r\n" % (scheme, asked.raw_host or b"", asked.target),
            b"X-Original-Method: %b\r\n" % asked.method,
            b"X-Sent-From: nginx-ingress-controller\r\n",
            b"X-Auth-Request-Redirect: %b\r\n" % self._redirect.fill(exchange),
            *(b"%b: %b\r\n" % (name, said) for name, value in self._fields if (said := value.fill(exchange))),
        ]
        return head

    def _decide(self, exchange: Exchange, passage: Passage, key: Key | None, answer: ResponseHead | None) -> None:
        """Act on what the service answered."""
        verdict = None if answer is None else verdict_of(answer, self._asked.copied)
        if verdict is not None and key is not None:
            self._verdicts.note(key, verdict, exchange.client.http.clock.now)
        if exchange.state is not PENDING:
            return  # Its client has gone.
        if verdict is None:
            _unavailable(exchange)
        elif self._act(exchange, passage, verdict):
            flow.go_on(exchange)

    def _act(self, exchange: Exchange, passage: Passage, verdict: Verdict) -> bool:
        """Return whether the request may go on now, or answer it."""
        if self._asked.always_cookie:
            passage.answer += verdict.cookies
        else:
            passage.well += verdict.cookies
        if verdict.passes:
            if self._asked.copied:
                without_alike(exchange.head, self._names)
                passage.fields += verdict.copied
            return True
        exchange.reason = "unauthorized" if verdict.status == 401 else "auth_denied"
        if verdict.status == 401 and self._signin:
            flow.answer(exchange, 302, b"Location: %b\r\n" % self._signin.fill(exchange), keeps=True)
        else:
            flow.answer(exchange, verdict.status, verdict.challenge, keeps=True)
        return False


def _unavailable(exchange: Exchange) -> bool:
    exchange.reason = "auth_unavailable"
    flow.answer(exchange, 500, keeps=True)
    return False


def _quoted(found: re.Match[bytes]) -> bytes:
    return quote_from_bytes(found[0], safe="").encode()
