"""What finished exchanges leave behind: counts, access lines and spans, made in batches between requests.

One after another they cost a quarter of what each would cost by itself, when the processor's caches hold other things.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Protocol

from portway_proxy.metrics import ACCESS_DROPPED, Sample
from portway_proxy.span_export import SpanExporter
from portway_proxy.tracing import Tracer

if TYPE_CHECKING:
    from portway_proxy.access_log import AccessLog
    from portway_proxy.clock import Clock
    from portway_proxy.dashboard.lookout import Pulse
    from portway_proxy.l4.records import RelayRecord
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.live import Live
    from portway_proxy.observing import Tracing
    from portway_proxy.traffic import Traffic

__all__ = ["Journal"]

_BATCH: Final = 256  # Exchanges in a batch; the clock ends smaller ones each second.


class Serving(Protocol):
    """What knows which snapshot is in service."""

    live: Live


class Journal:
    """Takes note of every exchange that ends; at most a batch of them, or a second's, is not yet counted.

    `tracer` is None while nothing is traced, and `pulse` while nobody looks.
    """

    __slots__ = ("_access", "_clock", "_exchanges", "_serving", "deadline", "pulse", "tracer", "traffic")

    def __init__(self, serving: Serving, clock: Clock, access: AccessLog, traffic: Traffic) -> None:
        self.deadline = 0.0  # Always passed: the clock ends a batch at every tick.
        self.tracer: Tracer | None = None
        self.pulse: Pulse | None = None
        self.traffic = traffic
        self._serving = serving
        self._clock = clock
        self._access = access
        self._exchanges: list[Exchange] = []

    def start(self) -> None:
        """Begin to write."""
        self._access.start()
        self._clock.watch(self)

    def close(self) -> None:
        """Count and write what is left, waiting at most a moment for who does not take it."""
        self._clock.unwatch(self)
        self.expire()
        self._access.close()
        if self.tracer is not None:
            self.tracer.close()

    def trace(self, settings: Tracing | None, node: str) -> None:
        """Trace from the next request on as `settings` say; None traces nothing. `node` is this proxy's name."""
        before = self.tracer
        if settings == (None if before is None else before.settings):
            return
        self.tracer = None if settings is None else Tracer(settings, SpanExporter(settings, node))
        if before is not None:
            before.end()

    def note(self, exchange: Exchange) -> None:
        """Take a finished exchange, which must not change any more."""
        exchanges = self._exchanges
        exchanges.append(exchange)
        if len(exchanges) >= _BATCH:
            self.expire()

    def turned_away(self, record: RelayRecord) -> None:
        """Take a client that was answered before it could ask for anything."""
        self._access.relay(record)

    def samples(self) -> Iterator[Sample]:
        """Return a sample for each count, of all that has finished so far."""
        self.expire()
        yield from self.traffic.samples()
        yield ACCESS_DROPPED.sample(self._access.dropped)
        if self.tracer is not None:
            yield from self.tracer.samples()

    def expire(self) -> None:
        """End a batch."""
        batch, self._exchanges = self._exchanges, []
        if batch:
            self.traffic.count(batch, self._serving.live)
            if self.tracer is not None:
                self.tracer.take(batch)
            if self.pulse is not None:
                self.pulse.take(batch)
        self._access.write([one for one in batch if _logged(one)] if self._serving.live.rules.quiet else batch)


def _logged(exchange: Exchange) -> bool:
    """Return whether the exchange leaves an access line."""
    policy = None if exchange.route is None else exchange.route.policy
    return policy is None or not policy.unlogged
