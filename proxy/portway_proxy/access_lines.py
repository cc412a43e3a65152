"""The two access lines of our own, text and JSON, for exchanges and for relays."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from portway_proxy.log_variables import quoted

if TYPE_CHECKING:
    from portway_proxy.l4.records import RelayRecord
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.log_variables import Moment

__all__ = ["json_line", "relay_json", "relay_text", "text_line"]

# Clients repeat what they call themselves from request to request.
_AGENTS: Final = 256
_agents: Final[dict[bytes, bytes]] = {}

# Nearly all requests are over in a second, and to format a float costs three times a look-up.
_SHORT: Final = tuple(b"%.3f" % (thousandths / 1000) for thousandths in range(1000))


def text_line(exchange: Exchange, moment: Moment) -> bytes:
    """Return nginx's combined line, and behind it what became of the request.

    That is its body's size, seconds, upstream, endpoint, the endpoint's status and seconds until its head, request id
    and reason code.
    """
    head = exchange.head
    pool = exchange.pool
    upstream = exchange.upstream
    response = exchange.response
    spent = _seconds(exchange.ended - exchange.started)
    return b'%b - - [%b] "%b %b %b" %d %d "%b" "%b" %d %b [%b] %b %d %b %b %b\n' % (
        exchange.peer,
        moment.local,
        head.method,
        quoted(head.raw_target),
        exchange.client.versions[head.minor],
        exchange.status,
        exchange.response_size,
        quoted(head.referer) if head.referer else b"-",
        (_agents.get(head.agent) or _quoted_agent(head.agent)) if head.agent else b"-",
        exchange.request_size,
        spent,
        upstream.label if upstream is not None else b"-",
        pool.label if pool is not None else b"-",
        response.status if response is not None else 0,
        spent if exchange.trail is None and response is not None else _seconds(_until_head(exchange)),
        head.request_id or b"-",
        exchange.reason.encode() if exchange.reason else b"-",
    )


def _quoted_agent(agent: bytes) -> bytes:
    if len(_agents) >= _AGENTS:
        _agents.clear()
    found = _agents[agent] = quoted(agent)
    return found


def _seconds(seconds: float) -> bytes:
    thousandths = int(seconds * 1000 + 0.5)
    return _SHORT[thousandths] if 0 <= thousandths < len(_SHORT) else b"%.3f" % seconds


def json_line(exchange: Exchange, moment: Moment) -> bytes:
    """Return the same as one object of JSON, with the object that the route came from."""
    head = exchange.head
    trail = exchange.trail
    line = {
        "time": moment.iso.decode(),
        "client": exchange.peer.decode(),
        "method": head.method.decode(),
        "host": (head.raw_host or b"").decode(),
        "target": head.raw_target.decode(),
        "version": exchange.client.versions[head.minor].decode().removeprefix("HTTP/"),
        "status": exchange.status,
        "request_size": exchange.request_size,
        "response_size": exchange.response_size,
        "seconds": round(exchange.ended - exchange.started, 3),
        "referer": head.referer.decode(errors="backslashreplace"),
        "agent": head.agent.decode(errors="backslashreplace"),
        "request_id": head.request_id.decode(),
        "route": str(exchange.route.origin) if exchange.route is not None else "",
        "upstream": exchange.upstream.label.decode() if exchange.upstream is not None else "",
        "endpoint": exchange.pool.label.decode() if exchange.pool is not None else "",
        "upstream_status": exchange.response.status if exchange.response is not None else 0,
        "upstream_seconds": round(_until_head(exchange), 3),
        "attempts": len(trail.attempts) + 1 if trail is not None else 1,
        "reason": exchange.reason,
    }
    if exchange.pool is None:
        line["attempts"] = 0
    if trail is not None and trail.span is not None:
        line["trace_id"] = trail.span.trace.decode()
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def relay_text(record: RelayRecord, moment: Moment) -> bytes:
    """Return the line of a relay."""
    return (
        f"{record.client} - - [{moment.local.decode()}] {record.listener} {record.bytes_in} {record.bytes_out} "
        f"{record.seconds:.3f} [{record.upstream}] {record.endpoint or '-'} {record.reason or '-'}\n"
    ).encode()


def relay_json(record: RelayRecord, moment: Moment) -> bytes:
    """Return the same as one object of JSON."""
    line = {
        "time": moment.iso.decode(),
        "client": record.client,
        "listener": record.listener,
        "upstream": record.upstream,
        "endpoint": record.endpoint,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "seconds": round(record.seconds, 3),
        "reason": record.reason,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _until_head(exchange: Exchange) -> float:
    if exchange.response is None:
        return 0.0
    trail = exchange.trail
    if trail is None:
        return exchange.ended - exchange.started
    return (trail.headed or exchange.ended) - trail.sent
