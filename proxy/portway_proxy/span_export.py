"""Delivers the spans of finished requests, in a thread: OpenTelemetry's exporter may take its time."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from portway_proxy.observing import Tracing

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["SpanExporter", "missing"]

_log = logging.getLogger(__name__)

_WAITING: Final = 16  # Batches that may wait for the collector: 4,096 spans; OpenTelemetry's own processor holds 2,048.


def missing() -> str:
    """Return what has to be installed for tracing; nothing when it is there."""
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        return "tracing needs OpenTelemetry: pip install 'portway[otel]'"
    return ""


class SpanExporter:
    """Delivers spans to the collector of `settings`; those that find no room in the queue are dropped.

    `results` counts spans by what became of them. `node` is this proxy's name.
    """

    def __init__(self, settings: Tracing, node: str) -> None:
        self.results = {"exported": 0, "failed": 0, "dropped": 0}
        self._settings = settings
        self._node = node
        self._queue: queue.Queue[Sequence[Exchange] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    def take(self, exchanges: Sequence[Exchange]) -> None:
        """Deliver the spans of these finished exchanges, which all have one."""
        if not self._thread.is_alive():
            self._thread.start()
        try:
            self._queue.put_nowait(exchanges)
        except queue.Full:
            self.results["dropped"] += len(exchanges)

    def end(self) -> None:
        """Take no more, and deliver what waits in its own time."""
        # A queue that is full belongs to a collector that takes nothing: the thread then ends with the process.
        with contextlib.suppress(queue.Full):
            self._queue.put_nowait(None)

    def close(self) -> None:
        """Deliver what waits, if that takes no longer than a moment."""
        if self._thread.is_alive():
            self.end()
            self._thread.join(timeout=1)

    def _run(self) -> None:
        try:
            # A quarter of a second that only a proxy that traces should wait for.
            delivery = importlib.import_module("portway_proxy.spans").Delivery(self._settings, self._node)
        except ImportError as error:
            _log.error("spans are lost: %s (%s)", missing() or "tracing needs portway[otel]", error)
            self._lose()
            return
        reached = True
        while (exchanges := self._queue.get()) is not None:
            # The loop's clock counts from the same beginning as this one.
            offset = time.time() - time.monotonic()
            delivered = delivery.deliver(exchanges, offset)
            self.results["exported" if delivered else "failed"] += len(exchanges)
            if delivered is not reached:
                reached = delivered
                _log.log(
                    logging.INFO if reached else logging.ERROR,
                    "%s %s spans",
                    self._settings.endpoint,
                    "takes" if reached else "does not take",
                )
        delivery.close()

    def _lose(self) -> None:
        while (exchanges := self._queue.get()) is not None:
            self.results["failed"] += len(exchanges)
