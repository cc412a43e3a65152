"""Which requests are traced, and how their trace goes on to endpoints (W3C Trace Context, level 1).

The spans themselves are `span_export`'s; a request that is not traced costs a few random bits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from portway_proxy.errors import ProxyError
from portway_proxy.l7.template import Template
from portway_proxy.l7.trail import trail_of
from portway_proxy.metrics import SPANS, Sample
from portway_proxy.observing import Sampler, Tracing
from portway_proxy.policies import Traced

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.span_export import SpanExporter

__all__ = ["Span", "Tracer"]

# Versions that come after 00 may have more behind it.
_PARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_LOW: Final = (1 << 64) - 1
_USUAL: Final = Traced()


class Span:
    """What identifies a traced request: hexadecimal digits, `parent` empty for the first span of its trace.

    `name` is what its route calls it, or empty.
    """

    __slots__ = ("id", "name", "parent", "trace")

    def __init__(self, trace: bytes, own: bytes, parent: bytes, name: bytes = b"") -> None:
        self.trace = trace
        self.id = own
        self.parent = parent
        self.name = name


class Tracer:
    """Decides which requests are traced, and hands their spans on when they are over."""

    __slots__ = ("_bound", "_exporter", "_follow", "_random", "_trust", "settings")

    def __init__(self, settings: Tracing, exporter: SpanExporter) -> None:
        self.settings = settings
        self._exporter = exporter
        self._random = random.Random()  # noqa: S311 - ids of traces are no secrets
        self._trust = settings.trust_incoming
        self._follow = settings.parent_based
        share = {Sampler.ALWAYS_ON: 1.0, Sampler.ALWAYS_OFF: 0.0}.get(settings.sampler, settings.ratio)
        # As OpenTelemetry's own samplers do it: by the lower half of the trace's id.
        self._bound = round(share * (_LOW + 1))

    def begin(self, exchange: Exchange) -> None:
        """Decide about a request, and let the endpoint know."""
        head = exchange.head
        said = head.trace_parent
        told = _told(exchange)
        if not (self.settings.everywhere if told.enabled is None else told.enabled):
            return
        trust = self._trust if told.trust_incoming is None else told.trust_incoming
        parent = _parent_of(said) if said and trust else None
        if parent is None:
            trace, before, sampled = self._new()
        else:
            trace, before, flags = parent
            sampled = bool(flags & 1) if self._follow else int(trace[16:], 16) < self._bound
            if not sampled and not flags & 1:
                return  # It goes on as it came.
        if sampled:
            name = _name(told.name).fill(exchange) if told.name else b""
            span = trail_of(exchange).span = Span(trace, self._id(), b"" if parent is None else before, name)
            before = span.id
        _tell(exchange, b"traceparent: 00-%b-%b-%b\r\n" % (trace, before, b"01" if sampled else b"00"), anew=not parent)

    def take(self, batch: list[Exchange]) -> None:
        """Hand on the spans of exchanges that are over."""
        traced = [exchange for exchange in batch if exchange.trail is not None and exchange.trail.span is not None]
        if traced:
            self._exporter.take(traced)

    def end(self) -> None:
        """Take no more, and deliver what waits in its own time."""
        self._exporter.end()

    def close(self) -> None:
        """Deliver what waits, if that takes no longer than a moment."""
        self._exporter.close()

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each thing that became of spans."""
        for result, count in self._exporter.results.items():
            yield SPANS.sample(count, result)

    def _new(self) -> tuple[bytes, bytes, bool]:
        bits = self._random.getrandbits(128) | 1 | 1 << 64
        return b"%032x" % bits, b"%016x" % (bits >> 64), bits & _LOW < self._bound

    def _id(self) -> bytes:
        return b"%016x" % (self._random.getrandbits(64) | 1)


def _told(exchange: Exchange) -> Traced:
    """Return what the route of a request that is yet to be routed says."""
    live = exchange.client.http.worker.live
    if not live.rules.traced:
        return _USUAL
    try:
        policy = live.table.match(exchange.head.host, exchange.head.path).policy
    except ProxyError:
        return _USUAL
    return _USUAL if policy is None or policy.tracing is None else policy.tracing


@lru_cache(maxsize=1024)
def _name(text: str) -> Template:
    return Template(text)


def _parent_of(value: bytes) -> tuple[bytes, bytes, int] | None:
    """Return the trace, the span and the flags that Traceparent names, or None when it is malformed."""
    found = _PARENT.fullmatch(value)
    if found is None or (found[4] and value.startswith(b"00")):
        return None
    return found[1], found[2], int(found[3], 16)


def _tell(exchange: Exchange, line: bytes, *, anew: bool) -> None:
    """Put `line` in the place of what the client said of its trace, whose state ends when another begins `anew`."""
    head = exchange.head
    lines = head.lines
    if head.trace_parent:
        dropped: Callable[[bytes], bool] = _of_trace if anew else _names_parent
        lines = [one for one in lines if not dropped(one)]
    # Never changed in place: requests with the same fields share them.
    head.lines = [*lines, line]


def _names_parent(line: bytes) -> bool:
    return line[:12].lower() == b"traceparent:"


def _of_trace(line: bytes) -> bool:
    return _names_parent(line) or line[:11].lower() == b"tracestate:"
