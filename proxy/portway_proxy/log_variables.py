"""What each variable of an access line's template is, and templates compiled to one function."""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias

from portway_proxy.log_format import Escape, parse

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.trail import Attempt

__all__ = ["Moment", "line_of", "quoted"]

Getter: TypeAlias = "Callable[[Exchange], bytes]"

# What a quoted text field may hold as it is.
_PLAIN: Final = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')
_CONTROLS: Final = bytes((*range(0x20), 0x7F))


class Moment:
    """The time of a batch of lines: `local` and `iso` as text; `offset` leads from the loop's clock to the epoch's."""

    __slots__ = ("iso", "local", "node", "offset")

    def __init__(self, node: str = "") -> None:
        self.local = b""
        self.iso = b""
        self.offset = 0.0
        self.node = node.encode()


def quoted(text: bytes) -> bytes:
    r"""Return `text` as nginx writes it between quotes: what is not plain as \xXX."""
    if text.translate(None, _PLAIN):
        text = b"".join(b"%c" % octet if octet in _PLAIN else b"\\x%02X" % octet for octet in text)
    return text


def line_of(template: str, escape: Escape, moment: Moment) -> Getter:
    """Return what makes a line, its end included, of an exchange; a variable that there is not says `-`."""
    pattern = b""
    getters = []
    for text, name in parse(template):
        pattern += text.encode().replace(b"%", b"%%")
        if name:
            pattern += b"%b"
            getters.append(_getter(name, escape, moment))
    pattern += b"\n"
    found = tuple(getters)
    return lambda exchange: pattern % tuple([get(exchange) for get in found])


def _getter(name: str, escape: Escape, moment: Moment) -> Getter:
    missing = b"" if escape is Escape.JSON else b"-"
    if name in _OWN:
        own = _OWN[name]
        return lambda exchange: own(exchange) or missing
    if name in _SENT:
        sent = _SENT[name]
    elif name in _MOMENTS:
        moments = _MOMENTS[name]
        return lambda exchange: moments(moment, exchange)
    elif name == "proxy_alternative_upstream_name":
        return lambda _: b""
    else:
        sent = _named(name)
    escaped = _ESCAPES[escape]
    return lambda exchange: escaped(sent(exchange)) or missing


def _json(text: bytes) -> bytes:
    return json.dumps(text.decode(errors="backslashreplace"))[1:-1].encode()


def _bare(text: bytes) -> bytes:
    # A client must not be able to begin a line, or to speak to the terminal that shows it.
    if text.translate(None, _CONTROLS) != text:
        text = b"".join(b"\\x%02X" % octet if octet in _CONTROLS else b"%c" % octet for octet in text)
    return text


_ESCAPES: Final[dict[Escape, Callable[[bytes], bytes]]] = {
    Escape.DEFAULT: quoted,
    Escape.JSON: _json,
    Escape.NONE: _bare,
}


# --- fields, cookies, parameters


def _named(name: str) -> Getter:
    """Return what `http_x_user` and the like stand for; for anything else, nothing."""
    for prefix, of in _PREFIXES.items():
        if name.startswith(prefix):
            return of(name[len(prefix) :].encode())
    return lambda _: b""


def _request_field(name: bytes) -> Getter:
    wanted = name.replace(b"_", b"-") + b":"
    own = _TAKEN.get(wanted[:-1])
    return own or (lambda exchange: _value(exchange.head.lines, wanted))


def _response_field(name: bytes) -> Getter:
    wanted = name.replace(b"_", b"-") + b":"

    def get(exchange: Exchange) -> bytes:
        response = exchange.response
        if response is None:
            return b""
        if wanted == b"content-length:":
            return b"" if response.length is None else b"%d" % response.length
        return _value(response.lines, wanted)

    return get


def _value(lines: Iterable[bytes], wanted: bytes) -> bytes:
    length = len(wanted)
    return b", ".join(line[length:].strip() for line in lines if line[:length].lower() == wanted)


def _cookie(name: bytes) -> Getter:
    def get(exchange: Exchange) -> bytes:
        for pair in _value(exchange.head.lines, b"cookie:").split(b";"):
            key, _, value = pair.strip().partition(b"=")
            if key.lower() == name:
                return value
        return b""

    return get


def _argument(name: bytes) -> Getter:
    def get(exchange: Exchange) -> bytes:
        for pair in _args(exchange).split(b"&"):
            key, _, value = pair.partition(b"=")
            if key.lower() == name:
                return value
        return b""

    return get


_PREFIXES: Final[dict[str, Callable[[bytes], Getter]]] = {
    "http_": _request_field,
    "cookie_": _cookie,
    "arg_": _argument,
    "upstream_http_": _response_field,
    "sent_http_": _response_field,
}


def _length(exchange: Exchange) -> bytes:
    length = exchange.head.length
    return b"" if length is None else b"%d" % length


_TAKEN: Final[dict[bytes, Getter]] = {
    b"host": lambda exchange: exchange.head.raw_host or b"",
    b"content-length": _length,
    b"referer": lambda exchange: exchange.head.referer,
    b"user-agent": lambda exchange: exchange.head.agent,
    b"x-request-id": lambda exchange: exchange.head.request_id,
}


# --- what was sent


def _args(exchange: Exchange) -> bytes:
    return exchange.head.raw_target.partition(b"?")[2]


def _request(exchange: Exchange) -> bytes:
    head = exchange.head
    return b"%b %b %b" % (head.method, head.raw_target, exchange.client.versions[head.minor])


def _user(exchange: Exchange) -> bytes:
    scheme, _, value = _value(exchange.head.lines, b"authorization:").partition(b" ")
    if scheme.lower() != b"basic":
        return b""
    try:
        return base64.b64decode(value.strip()).partition(b":")[0]
    except binascii.Error:
        return b""


_SENT: Final[dict[str, Getter]] = {
    "args": _args,
    "content_type": lambda exchange: _value(exchange.head.lines, b"content-type:"),
    "host": lambda exchange: exchange.head.host,
    "query_string": _args,
    "remote_user": _user,
    "req_id": lambda exchange: exchange.head.request_id,
    "request": _request,
    "request_id": lambda exchange: exchange.head.request_id,
    "request_method": lambda exchange: exchange.head.method,
    "request_uri": lambda exchange: exchange.head.raw_target,
    "server_name": lambda exchange: exchange.head.host,
    "uri": lambda exchange: exchange.head.path,
}


# --- what we know ourselves


def _bytes_sent(exchange: Exchange) -> bytes:
    size = exchange.trail.head_size if exchange.trail is not None else 0
    if not size and exchange.response is not None:
        size = len(exchange.response.plain)
    return b"%d" % (size + exchange.response_size)


def _https(exchange: Exchange) -> bytes:
    return b"on" if exchange.client.secure else b""


def _scheme(exchange: Exchange) -> bytes:
    return b"https" if exchange.client.secure else b"http"


def _peer(exchange: Exchange) -> bytes:
    return exchange.peer


def _endpoint(exchange: Exchange) -> bytes:
    return b"" if exchange.pool is None else exchange.pool.label


def _label(exchange: Exchange) -> str:
    # What stands behind `#` is the Ingress that has endpoints of its own terms.
    return exchange.upstream.upstream.name.partition("#")[0] if exchange.upstream is not None else ""


def _origin(exchange: Exchange, name: str) -> bytes:
    route = exchange.route
    if route is None or route.origin.kind != "Ingress":
        return _label(exchange).partition("/")[0].encode() if name == "namespace" else b""
    return (route.origin.namespace if name == "namespace" else route.origin.name).encode()


def _upstream_name(exchange: Exchange) -> bytes:
    return _label(exchange).replace("/", "-", 1).replace(":", "-", 1).encode()


def _service(exchange: Exchange, part: int) -> bytes:
    return _label(exchange).partition("/")[2].partition(":")[part].encode()


def _each(of: Callable[[Attempt], bytes], last: Getter) -> Getter:
    """Return what says `of` of each attempt that failed, and `last` of the one that counted."""

    def get(exchange: Exchange) -> bytes:
        if exchange.pool is None:
            return b""
        trail = exchange.trail
        if trail is None or not trail.attempts:
            return last(exchange) or b"-"
        return b", ".join((*map(of, trail.attempts), last(exchange) or b"-"))

    return get


def _status(exchange: Exchange) -> bytes:
    if exchange.response is not None:
        return b"%d" % exchange.response.status
    return b"%d" % exchange.status if exchange.status >= 500 else b""


def _connect(seconds: float | None) -> bytes:
    return b"%.3f" % (seconds or 0.0)


def _header_time(exchange: Exchange) -> bytes:
    if exchange.response is None:
        return b""
    trail = exchange.trail
    if trail is None:
        return b"%.3f" % (exchange.ended - exchange.started)
    return b"%.3f" % ((trail.headed or exchange.ended) - trail.sent)


def _response_time(exchange: Exchange) -> bytes:
    trail = exchange.trail
    return b"%.3f" % (exchange.ended - (exchange.started if trail is None else trail.sent))


def _span(exchange: Exchange, part: str) -> bytes:
    span = exchange.trail.span if exchange.trail is not None else None
    return b"" if span is None else (span.trace if part == "trace" else span.id)


_OWN: Final[dict[str, Getter]] = {
    "body_bytes_sent": lambda exchange: b"%d" % exchange.response_size,
    "bytes_sent": _bytes_sent,
    "content_length": _length,
    "https": _https,
    "ingress_name": lambda exchange: _origin(exchange, "name"),
    "is_args": lambda exchange: b"?" if b"?" in exchange.head.raw_target else b"",
    "location_path": lambda exchange: exchange.route.path.encode() if exchange.route is not None else b"",
    "namespace": lambda exchange: _origin(exchange, "namespace"),
    "opentelemetry_span_id": lambda exchange: _span(exchange, "id"),
    "opentelemetry_trace_id": lambda exchange: _span(exchange, "trace"),
    "pid": lambda _: b"%d" % os.getpid(),
    "portway_reason": lambda exchange: exchange.reason.encode(),
    "proxy_upstream_name": _upstream_name,
    "remote_addr": _peer,
    "request_length": lambda exchange: b"%d" % (exchange.head.size + exchange.request_size),
    "request_time": lambda exchange: b"%.3f" % (exchange.ended - exchange.started),
    "scheme": _scheme,
    "server_protocol": lambda exchange: exchange.client.versions[exchange.head.minor],
    "service_name": lambda exchange: _service(exchange, 0),
    "service_port": lambda exchange: _service(exchange, 2),
    "status": lambda exchange: b"%d" % exchange.status,
    "upstream_addr": _each(lambda one: one.endpoint, _endpoint),
    "upstream_connect_time": _each(
        lambda one: _connect(one.connect), lambda exchange: _connect(exchange.trail.connect if exchange.trail else None)
    ),
    "upstream_header_time": _each(lambda _: b"-", _header_time),
    "upstream_response_length": _each(
        lambda _: b"0", lambda exchange: b"%d" % exchange.response_size if exchange.response is not None else b"0"
    ),
    "upstream_response_time": _each(lambda one: b"%.3f" % one.seconds, _response_time),
    "upstream_status": _each(lambda one: b"%d" % one.status, _status),
}

_MOMENTS: Final[dict[str, Callable[[Moment, Exchange], bytes]]] = {
    "hostname": lambda moment, _: moment.node,
    "msec": lambda moment, exchange: b"%.3f" % (exchange.ended + moment.offset),
    "time_iso8601": lambda moment, _: moment.iso,
    "time_local": lambda moment, _: moment.local,
}
