"""How an exchange goes: begun on a route, tried on endpoints, ended once.

Every `ProxyError` ends in `fail`, which decides: another endpoint, a reply, or the end of a connection whose response
had already begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.errors import BodyTooLarge, ClientError, ClientGone, Closed, NoEndpoints, ProxyError, Retry
from portway_proxy.l7.exchange import ATTEMPT_FAILED, DONE, EARLY, END, PENDING, RESPONDING, TUNNEL, Exchange
from portway_proxy.l7.replies import redirect, reply

if TYPE_CHECKING:
    from portway_proxy.l7.client import ClientConnection
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.upstream import UpstreamConnection
    from portway_proxy.snapshot import Policy

__all__ = ["abandon", "attempt", "attempt_or_fail", "begin", "complete", "end_half", "fail"]

_TRIES = 3  # ingress-nginx's proxy-next-upstream-tries.
_REPEATABLE = (b"GET", b"HEAD", b"OPTIONS", b"TRACE")
_ANSWERED = (EARLY, RESPONDING, TUNNEL)


def begin(client: ClientConnection, head: RequestHead) -> None:
    """Route a request and send it on its way, or answer it."""
    http = client.http
    exchange = client.exchange = Exchange(client, head, http.loop.time())
    if not head.request_id:
        head.request_id = http.request_id()
    live = http.worker.live
    body_limit = http.limits.body
    try:
        route = live.table.match(head.host, head.path)
        exchange.upstream = live.upstreams[route.upstream]
        policy = route.policy
        if policy is not None:
            if policy.body_size is not None:
                body_limit = policy.body_size
            if _answered_by(policy, exchange):
                return
        client.body_limit = body_limit
        if body_limit and head.length is not None and head.length > body_limit:
            raise BodyTooLarge(f"the body has {head.length} bytes, {body_limit} are allowed")
        attempt(exchange)
    except ProxyError as error:
        fail(exchange, error)


def _answered_by(policy: Policy, exchange: Exchange) -> bool:
    if policy.closed:
        raise Closed
    client = exchange.client
    if not policy.https_redirect or client.tls:
        return False
    head = exchange.head
    if head.raw_host is None:
        return False  # HTTP/1.0 without Host: there is no name to redirect to.
    exchange.reason = "https_redirect"
    target = head.target if head.path != b"*" else b"/"
    location = redirect(head.host, target, client.http.https_port)
    _answer(exchange, 308, location, keeps=True)
    return True


def attempt(exchange: Exchange) -> None:
    """Send the request to the next endpoint that has not failed it; raises a `ProxyError` when there is none."""
    upstream = exchange.upstream
    if upstream is None:  # Only a routed exchange is tried.
        raise NoEndpoints
    if upstream.parked is not None:
        upstream.parked.append(exchange)
        return
    pool = exchange.pool = upstream.next_pool(exchange.tried)
    connection = pool.take()
    if connection is None:
        pool.connect(exchange.client.http, exchange)
    else:
        connection.start(exchange)


def attempt_or_fail(exchange: Exchange) -> None:
    """Send a request that waited on its way, unless its client is gone."""
    if exchange.state is PENDING:
        try:
            attempt(exchange)
        except ProxyError as error:
            fail(exchange, error)


def fail(exchange: Exchange, error: ProxyError) -> None:
    """End what the exchange has under way, and try again, answer, or hang up."""
    if exchange.state is DONE:
        return
    answered = exchange.state in _ANSWERED
    _detach(exchange)
    if not answered and _again(exchange, error):
        return
    exchange.reason = error.code if isinstance(error, NoEndpoints) else error.reason
    client = exchange.client
    if answered or isinstance(error, ClientGone):
        exchange.status = exchange.status or error.status
        _finish(exchange)
        client.abort()
    else:
        _answer(exchange, error.status, keeps=not isinstance(error, ClientError))


def _detach(exchange: Exchange) -> None:
    connection = exchange.connection
    if connection is not None:
        exchange.connection = None
        connection.abandon()


def _again(exchange: Exchange, error: ProxyError) -> bool:
    pool = exchange.pool
    if error.retry is Retry.NEVER or pool is None or len(exchange.tried) + 1 >= _TRIES:
        return False
    head = exchange.head
    if error.retry is Retry.SAFE and not (head.method in _REPEATABLE and head.bodiless):
        return False
    exchange.on(ATTEMPT_FAILED)
    if error.retry is Retry.ALWAYS:
        exchange.tried += (pool,)
        try:
            attempt(exchange)
        except ProxyError:
            return False
    else:
        # The endpoint itself may be well: its old connection had ended. A new one tells.
        pool.connect(exchange.client.http, exchange)
    return True


def _answer(exchange: Exchange, status: int, fields: bytes = b"", *, keeps: bool) -> None:
    # The client's connection stays when it may (`keeps`) and its whole request was read.
    client = exchange.client
    http = client.http
    exchange.status = status
    keeps = keeps and client.keeps(exchange.head)
    fields += b"Date: %b\r\nX-Request-ID: %b\r\n" % (http.date(), exchange.head.request_id)
    if not keeps:
        fields += b"Connection: close\r\n"
    elif exchange.head.minor == 0:
        fields += b"Connection: keep-alive\r\n"
    client.write(reply(status, fields, bodiless=exchange.head.method == b"HEAD"))
    http.counters.replies[exchange.reason] += 1
    _finish(exchange)
    client.finished(keeps=keeps)


def complete(exchange: Exchange, *, keeps: bool) -> None:
    """End an exchange whose response is complete; `keeps` says whether the client's connection stays."""
    _finish(exchange)
    exchange.client.finished(keeps=keeps)


def abandon(exchange: Exchange) -> None:
    """End an exchange whose client is gone."""
    if exchange.state is DONE:
        return
    tunnelled = exchange.state is TUNNEL
    _detach(exchange)
    if not tunnelled:
        exchange.reason = ClientGone.reason
        exchange.status = exchange.status or ClientGone.status
    _finish(exchange)


def end_half(exchange: Exchange, other: ClientConnection | UpstreamConnection | None) -> bool:
    """Pass the end of one half of a tunnel on to the `other` side; with the second half all ends.

    Returns whether the side whose half ended stays open.
    """
    if other is None:
        return False
    if not other.ended:
        return other.end_tunnel()
    connection, exchange.connection = exchange.connection, None
    if connection is not None:
        connection.finish()
    _finish(exchange)
    exchange.client.close()
    return False


def _finish(exchange: Exchange) -> None:
    exchange.on(END)
    client = exchange.client
    client.exchange = None
    if exchange.upstream is not None:
        exchange.upstream.count(exchange.status)
    client.http.access.exchange(exchange, client.http.loop.time())
