"""The access log: one line per exchange and per relay, written in batches by a thread, never waited for."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portway_proxy.clock import Clock
    from portway_proxy.l4.passthrough import RelayRecord
    from portway_proxy.l7.exchange import Exchange

__all__ = ["AccessLog"]

_BATCH = 256  # Lines in a batch; the clock writes smaller ones each second.
_WAITING = 256  # Batches that may wait for a slow reader of the log; further ones are dropped and counted.
# What a quoted text field may hold as it is.
_PLAIN = bytes(octet for octet in range(0x20, 0x7F) if octet not in b'"\\')


class AccessLog:
    """Formats and writes access lines to a file descriptor.

    `log_format` is `text` (nginx's combined with upstream fields) or `json`. A reader that does not keep up costs lines
    (`dropped` counts them), never time.
    """

    __slots__ = (
        "_clock",
        "_descriptor",
        "_exchanges",
        "_format",
        "_queue",
        "_relays",
        "_second",
        "_thread",
        "_time",
        "deadline",
        "dropped",
        "enabled",
    )

    def __init__(self, clock: Clock, *, enabled: bool, log_format: str, descriptor: int = 1) -> None:
        self.enabled = enabled
        self.dropped = 0
        self.deadline = 0.0  # Always passed: the clock flushes at every tick.
        self._clock = clock
        self._descriptor = descriptor
        self._format = _json if log_format == "json" else _text
        self._exchanges: list[tuple[Exchange, float, bytes]] = []
        self._relays: list[bytes] = []
        self._queue: queue.Queue[bytes | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._write, name="access-log", daemon=True)
        self._second = 0.0
        self._time = b""

    def start(self) -> None:
        """Begin to write."""
        if self.enabled:
            self._thread.start()
            self._clock.watch(self)

    def close(self) -> None:
        """Write what is left, waiting at most a second for a reader that does not read."""
        if self._thread.is_alive():
            self._clock.unwatch(self)
            self.expire()
            # A reader that is gone or asleep loses what waits for it.
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=1)
                self._thread.join(timeout=1)

    def exchange(self, exchange: Exchange, now: float) -> None:
        """Note a finished exchange; `now` is the loop's time in seconds. It must not change any more."""
        if self.enabled:
            self._exchanges.append((exchange, now, self._stamp()))
            if len(self._exchanges) >= _BATCH:
                self.expire()

    def relay(self, record: RelayRecord) -> None:
        """Note a finished relay of an opaque port."""
        if self.enabled:
            form = _relay_json if self._format is _json else _relay_text
            self._relays.append(form(record, self._stamp()))
            if len(self._relays) >= _BATCH:
                self.expire()

    def expire(self) -> None:
        """Hand the lines so far to the writing thread.

        Lines are made here, one after another: made one by one, between requests, each costs four times as much,
        because by then the processor's caches hold other things.
        """
        form = self._format
        lines = [form(exchange, now, stamp) for exchange, now, stamp in self._exchanges]
        lines += self._relays
        self._exchanges.clear()
        self._relays.clear()
        if lines:
            try:
                self._queue.put_nowait(b"".join(lines))
            except queue.Full:
                self.dropped += len(lines)

    def _stamp(self) -> bytes:
        wall = self._clock.wall
        if wall != self._second:
            self._second = wall
            form = "%Y-%m-%dT%H:%M:%S+00:00" if self._format is _json else "%d/%b/%Y:%H:%M:%S +0000"
            self._time = time.strftime(form, time.gmtime(wall)).encode()
        return self._time

    def _write(self) -> None:
        while (batch := self._queue.get()) is not None:
            view = memoryview(batch)
            while view:
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    # Somebody made our standard output non-blocking; the writer may wait, the loop does not.
                    time.sleep(0.01)  # noqa: TID251 - a thread of its own; there is no event to wait for
                except OSError:
                    self.dropped += batch.count(b"\n")
                    break


def _quoted(text: bytes) -> bytes:
    if text.translate(None, _PLAIN):
        text = b"".join(b"%c" % octet if octet in _PLAIN else b"\\x%02X" % octet for octet in text)
    return text


def _text(exchange: Exchange, now: float, stamp: bytes) -> bytes:
    head = exchange.head
    pool = exchange.pool
    upstream = exchange.upstream
    return b'%b - - [%b] "%b %b HTTP/1.%d" %d %d "%b" "%b" %d %.3f [%b] %b %d %b %b\n' % (
        exchange.client.peer,
        stamp,
        head.method,
        _quoted(head.raw_target),
        head.minor,
        exchange.status,
        exchange.response_size,
        _quoted(head.referer) or b"-",
        _quoted(head.agent) or b"-",
        exchange.request_size,
        now - exchange.started,
        upstream.label if upstream is not None else b"-",
        pool.label if pool is not None else b"-",
        exchange.response.status if exchange.response is not None else 0,
        head.request_id or b"-",
        exchange.reason.encode() or b"-",
    )


def _json(exchange: Exchange, now: float, stamp: bytes) -> bytes:
    head = exchange.head
    line = {
        "time": stamp.decode(),
        "client": exchange.client.peer.decode(),
        "method": head.method.decode(),
        "host": (head.raw_host or b"").decode(),
        "target": head.raw_target.decode(),
        "version": f"1.{head.minor}",
        "status": exchange.status,
        "request_size": exchange.request_size,
        "response_size": exchange.response_size,
        "seconds": round(now - exchange.started, 3),
        "referer": head.referer.decode(errors="backslashreplace"),
        "agent": head.agent.decode(errors="backslashreplace"),
        "request_id": head.request_id.decode(),
        "upstream": exchange.upstream.label.decode() if exchange.upstream is not None else "",
        "endpoint": exchange.pool.label.decode() if exchange.pool is not None else "",
        "upstream_status": exchange.response.status if exchange.response is not None else 0,
        "reason": exchange.reason,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _relay_text(record: RelayRecord, stamp: bytes) -> bytes:
    return (
        f"{record.client} - - [{stamp.decode()}] tcp/{record.port} {record.bytes_in} {record.bytes_out} "
        f"{record.seconds:.3f} {record.endpoint or '-'} {record.reason or '-'}\n"
    ).encode()


def _relay_json(record: RelayRecord, stamp: bytes) -> bytes:
    line = {
        "time": stamp.decode(),
        "client": record.client,
        "listener": record.port,
        "endpoint": record.endpoint,
        "bytes_in": record.bytes_in,
        "bytes_out": record.bytes_out,
        "seconds": round(record.seconds, 3),
        "reason": record.reason,
    }
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
