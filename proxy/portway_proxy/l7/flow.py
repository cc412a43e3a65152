"""How an exchange goes: begun on a route, tried on endpoints, ended once.

Every `ProxyError` ends in `fail`, which decides: another endpoint, a reply, or the end of a connection whose response
had already begun.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from portway_proxy.errors import (
    BodyTooLarge,
    ClientError,
    ClientGone,
    ConnectFailed,
    NoEndpoints,
    ProxyError,
    Retry,
    StreamRefused,
    UpstreamBadResponse,
    UpstreamReset,
    UpstreamStale,
    UpstreamTimeout,
)
from portway_proxy.health import GATEWAY_STATUSES
from portway_proxy.l7.exchange import ATTEMPT_FAILED, DONE, EARLY, PENDING, RESPONDING, Exchange
from portway_proxy.l7.grpc import is_grpc, status_lines, trailers_only
from portway_proxy.l7.trail import trail_of

if TYPE_CHECKING:
    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.pool import Pool
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.upstream import UpstreamConnection
    from portway_proxy.live import LiveUpstream
    from portway_proxy.routing import RouteTable
    from portway_proxy.snapshot import Route

__all__ = [
    "abandon",
    "answer",
    "attempt",
    "attempt_or_fail",
    "begin",
    "complete",
    "fail",
    "go_on",
    "judge",
    "send",
    "tunnel_ended",
]

# What an endpoint did with a request; whether it can be connected to, its pool notes.
_FAILURES = (UpstreamReset, UpstreamBadResponse, UpstreamTimeout)
_ANSWERED = (EARLY, RESPONDING)


def begin(client: Asker, head: RequestHead) -> None:
    """Route a request and send it on its way, or answer it."""
    http = client.http
    exchange = client.exchange = Exchange(client, head, http.loop.time())
    if not head.request_id:
        head.request_id = http.request_id()
    if http.journal.tracer is not None:
        http.journal.tracer.begin(exchange)
    live = http.worker.live
    body_limit = http.limits.body
    try:
        beginning = head.beginning
        if beginning is not None and beginning.mark is live.table.mark:
            route = beginning.route
        else:
            route = _match(live.table, head)
        exchange.route = route
        exchange.upstream = live.upstreams[route.upstream]
        if route.policy is not None:
            rules = live.rules.of(route.policy)
            body_limit = body_limit if rules.body_limit is None else rules.body_limit
            exchange.passage = rules.passage(client)
        client.body_limit = body_limit
        if body_limit and head.length is not None and head.length > body_limit:
            raise BodyTooLarge(f"the body has {head.length} bytes, {body_limit} are allowed")
        passage = exchange.passage
        if passage is not None and not passage.walk(exchange):
            return
        attempt(exchange)
    except ProxyError as error:
        fail(exchange, error)


def _match(table: RouteTable, head: RequestHead) -> Route:
    route = table.match(head.host, head.path)
    if head.beginning is not None:
        head.beginning.mark, head.beginning.route = table.mark, route
    return route


def go_on(exchange: Exchange) -> None:
    """Let an exchange that a step of its policy held take the steps that are left."""
    passage = exchange.passage
    if exchange.state is not PENDING or passage is None:
        return
    try:
        if passage.walk(exchange):
            attempt(exchange)
    except ProxyError as error:
        fail(exchange, error)


def attempt(exchange: Exchange) -> None:
    """Send the request to the next endpoint, or let it wait for one; raises a `ProxyError` when there is none."""
    upstream = exchange.upstream
    if upstream is None:  # Only a routed exchange is tried.
        raise NoEndpoints
    pool = upstream.next_pool() if upstream.plain else upstream.assign(exchange)
    if pool is not None:
        send(exchange, pool)


def send(exchange: Exchange, pool: Pool) -> None:
    """Send the request to the endpoint of `pool`."""
    exchange.pool = pool
    connection = pool.take()
    if connection is None:
        pool.connect(exchange.client.http, exchange)
    else:
        connection.start(exchange)


def attempt_or_fail(exchange: Exchange) -> None:
    """Send a request that waited on its way, unless its client is gone."""
    if exchange.state is PENDING:
        trail_of(exchange).sent = exchange.client.http.loop.time()
        try:
            attempt(exchange)
        except ProxyError as error:
            fail(exchange, error)


def fail(exchange: Exchange, error: ProxyError) -> None:
    """End what the exchange has under way, and try again, answer, or hang up."""
    if exchange.state is DONE:
        return
    answered = exchange.state in _ANSWERED
    if exchange.pool is not None and isinstance(error, _FAILURES):
        exchange.pool.owner.failed(exchange.pool)
    _detach(exchange)
    if not answered and _again(exchange, error):
        return
    exchange.reason = error.code if isinstance(error, NoEndpoints) else error.reason
    if isinstance(error, NoEndpoints) and _stood_in_for(exchange):
        return
    client = exchange.client
    if answered and _told_behind(exchange, error):
        return
    if answered or isinstance(error, ClientGone):
        exchange.status = exchange.status or error.status
        _finish(exchange)
        client.abort()
    else:
        wait = b"Retry-After: %d\r\n" % error.retry_after if error.retry_after else b""
        answer(exchange, error.status, wait, keeps=not isinstance(error, ClientError))


def _told_behind(exchange: Exchange, error: ProxyError) -> bool:
    """Tell a client of gRPC of an error behind what it got of the body; return False for any other."""
    client, response = exchange.client, exchange.response
    framed = response is None or response.length is not None or not client.takes_trailers(exchange.head)
    if framed or isinstance(error, ClientGone) or not is_grpc(exchange.head.lines):
        return False
    _finish(exchange)
    client.deliver_end(b"", [], status_lines(exchange, error.status))
    client.finished(keeps=False)
    return True


def judge(exchange: Exchange, pool: Pool, status: int) -> bytes | None:
    """Note how the endpoint of `pool` answers.

    Returns the fields that the client gets beside the response's own, or None: the request goes to another endpoint,
    and this response is of no use.
    """
    upstream = exchange.upstream
    if upstream is None:
        return b""
    unwanted = status in upstream.retries.statuses
    if upstream.timed:
        http, trail = exchange.client.http, exchange.trail
        sent = exchange.started if trail is None else trail.sent
        pool.health.latency.note(http.loop.time() - sent, http.clock.now)
    if status in GATEWAY_STATUSES:
        unwanted = unwanted or pool.health.probing  # That it is still ill is not for this client to learn.
        pool.owner.failed(pool)
    else:
        pool.owner.succeeded(pool)
    if unwanted and _repeatable(exchange, upstream) and _elsewhere(exchange, pool, "status", status):
        return None
    if status >= HTTPStatus.BAD_REQUEST and _paged(exchange, status):
        return None
    return upstream.cookie_for(exchange, pool)


def _stood_in_for(exchange: Exchange) -> bool:
    """Send a request that has no endpoint to who stands in for them; return whether it is under way."""
    passage = exchange.passage
    other = None if passage is None or passage.pages is None else passage.pages.stand_in(exchange, passage)
    if other is not None:
        _accompany(exchange)
        exchange.upstream = other
        attempt_or_fail(exchange)
    return other is not None


def _paged(exchange: Exchange, status: int, fields: bytes = b"") -> bool:
    """Ask for the page of an answer with `status`, if somebody makes it; return whether that is under way.

    `fields` are lines of that answer.
    """
    passage = exchange.passage
    other = None if passage is None or passage.pages is None else passage.pages.ask(exchange, passage, status)
    if other is None or passage is None:
        return False
    passage.answer += fields
    _accompany(exchange)
    _detach(exchange)
    if exchange.pool is not None:
        _passed_on(exchange, exchange.pool, status)
    exchange.tried = ()
    exchange.upstream = other
    exchange.client.drop_body()
    attempt_or_fail(exchange)
    return True


def _accompany(exchange: Exchange) -> None:
    """Count a response that stands for one of ours, and have it say why to those who are told that."""
    http = exchange.client.http
    if exchange.reason:
        http.counters.replies[exchange.reason] += 1
    if http.telling is not None:
        http.telling.accompany(exchange)


def _detach(exchange: Exchange) -> None:
    connection = exchange.connection
    if connection is not None:
        exchange.connection = None
        connection.abandon()


def _again(exchange: Exchange, error: ProxyError) -> bool:
    """Send the request once more, if that may be; return whether it is under way."""
    pool, upstream = exchange.pool, exchange.upstream
    if pool is None or upstream is None:
        return False
    if error.retry is Retry.ALWAYS:
        cost_nothing = isinstance(error, StreamRefused) or (isinstance(error, ConnectFailed) and error.refused)
        cause = "refused" if cost_nothing else "connect"
        if not _timely(exchange, upstream):
            return False
        if _elsewhere(exchange, pool, cause, error.status):
            return True
        return isinstance(error, StreamRefused) and _anew(exchange, upstream, pool, error)
    if not _repeatable(exchange, upstream):
        return False
    if isinstance(error, UpstreamStale) and not pool.retired:
        return _anew(exchange, upstream, pool, error)
    silent = isinstance(error, UpstreamReset) and error.silent
    wanted = isinstance(error, _FAILURES) and error.status in upstream.retries.statuses
    return (silent or wanted or error.retry is Retry.SAFE) and _elsewhere(exchange, pool, "reset", error.status)


def _anew(exchange: Exchange, upstream: LiveUpstream, pool: Pool, error: ProxyError) -> bool:
    """Send the request once more to an endpoint that may be well: its old connection had ended, and a new one tells."""
    if pool.retired:
        return False
    upstream.tally.repeat("stale")
    _passed_on(exchange, pool, error.status)
    pool.connect(exchange.client.http, exchange)
    return True


def _timely(exchange: Exchange, upstream: LiveUpstream) -> bool:
    rules = upstream.retries
    if len(exchange.tried) + 1 >= rules.tries:
        return False
    return exchange.client.http.loop.time() - exchange.started <= rules.timeout


def _repeatable(exchange: Exchange, upstream: LiveUpstream) -> bool:
    """Return whether the request may be sent again although an endpoint may have acted on it."""
    head = exchange.head
    return upstream.retries.repeatable(head.method, bodiless=head.bodiless) and _timely(exchange, upstream)


def _elsewhere(exchange: Exchange, pool: Pool, cause: str, status: int) -> bool:
    """Send the request to an endpoint that has not failed it, if there is one; return whether it is under way.

    `status` is what the endpoint of `pool` said, or its failure comes to.
    """
    upstream = exchange.upstream
    exchange.tried += (pool,)
    other = None if upstream is None else upstream.another(exchange, cause)
    if other is None:
        return False
    _detach(exchange)
    _passed_on(exchange, pool, status)
    send(exchange, other)
    return True


def _passed_on(exchange: Exchange, pool: Pool, status: int) -> None:
    exchange.on(ATTEMPT_FAILED)
    trail_of(exchange).failed(pool.label, status, exchange.client.http.loop.time())


def answer(exchange: Exchange, status: int, fields: bytes = b"", *, keeps: bool) -> None:
    """Answer in the place of an endpoint; `fields` are lines that each end in CRLF.

    The client's connection stays when it may (`keeps`) and its whole request was read.
    """
    client = exchange.client
    http = client.http
    if exchange.passage is not None:
        if _paged(exchange, status, fields):
            return
        status = exchange.passage.failed or status
    if http.telling is not None:
        fields += http.telling.lines(exchange)
    if status >= HTTPStatus.BAD_REQUEST and is_grpc(exchange.head.lines):
        _answer_grpc(exchange, status, fields)
        return
    exchange.status = status
    keeps = keeps and client.keeps(exchange.head)
    fields += b"Date: %b\r\n" % http.date()
    if exchange.head.request_id:
        fields += b"X-Request-ID: %b\r\n" % exchange.head.request_id
    if client.strict:
        fields += http.strict
    if exchange.passage is not None:
        fields += exchange.passage.own_lines(status)
    size, exchange.response_size = client.reply(exchange.head, status, fields, keeps=keeps)
    trail_of(exchange).head_size = size
    http.counters.replies[exchange.reason] += bool(size)
    _finish(exchange)
    client.finished(keeps=keeps)


def _answer_grpc(exchange: Exchange, status: int, fields: bytes) -> None:
    client = exchange.client
    exchange.status = HTTPStatus.OK
    head = client.head_of(exchange, trailers_only(exchange, status, fields), b"")
    trail_of(exchange).head_size = len(head)
    client.http.counters.replies[exchange.reason] += 1
    _finish(exchange)
    client.deliver_end(head, [], b"")
    client.finished(keeps=client.response_keeps)


def complete(exchange: Exchange, *, keeps: bool) -> None:
    """End an exchange whose response is complete; `keeps` says whether the client's connection stays."""
    _finish(exchange)
    exchange.client.finished(keeps=keeps)


def abandon(exchange: Exchange) -> None:
    """End an exchange whose client is gone."""
    if exchange.state is DONE:
        return
    _detach(exchange)
    exchange.reason = ClientGone.reason
    exchange.status = exchange.status or ClientGone.status
    _finish(exchange)


def tunnel_ended(exchange: Exchange, connection: UpstreamConnection, reason: str) -> None:
    """End an exchange whose tunnel has ended, and with it both connections, which no transport tells any more."""
    exchange.reason = reason
    exchange.tunnel = None
    exchange.connection = None
    _finish(exchange)
    exchange.client.connection_lost(None)
    connection.exchange = None
    connection.connection_lost(None)


def _finish(exchange: Exchange) -> None:
    exchange.state = DONE
    client = exchange.client
    client.exchange = None
    if exchange.passage is not None:
        exchange.passage.leave()
    if exchange.upstream is not None:
        exchange.upstream.requests += 1
    http = client.http
    exchange.ended = http.loop.time()
    client.note(exchange)
