"""The access log: one line per exchange and per relay, written in batches by a thread, never waited for."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

from portway_proxy import access_lines
from portway_proxy.log_format import INGRESS_NGINX
from portway_proxy.log_variables import Moment, line_of

if TYPE_CHECKING:
    from portway_proxy.clock import Clock
    from portway_proxy.l4.records import RelayRecord
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.observing import AccessLogSettings

__all__ = ["AccessLog"]

_log = logging.getLogger(__name__)

_BATCH: Final = 256  # Lines of relays that may wait for the clock.
_WAITING: Final = 256  # Batches that may wait for a slow reader of the log; further ones are dropped and counted.
_MODE: Final = 0o640


class _Order(Enum):
    """What the writing thread is told beside lines."""

    REOPEN = "reopen"
    END = "end"


class AccessLog:
    """Formats and writes access lines to the file that the settings name, else to `descriptor`.

    A reader that does not keep up costs lines (`dropped` counts them), never time.
    """

    __slots__ = (
        "_clock",
        "_descriptor",
        "_form",
        "_json",
        "_moment",
        "_path",
        "_queue",
        "_relays",
        "_second",
        "_skipped",
        "_thread",
        "dropped",
        "enabled",
    )

    def __init__(self, clock: Clock, settings: AccessLogSettings, *, descriptor: int = 1, node: str = "") -> None:
        self.dropped = 0
        self._clock = clock
        self._descriptor = descriptor
        self._path = settings.path
        self._moment = Moment(node)
        self._relays: list[RelayRecord] = []
        self._queue: queue.Queue[bytes | _Order] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._second = 0.0
        self._form: Callable[[Exchange], bytes]
        self._configure(settings)

    def configure(self, settings: AccessLogSettings) -> None:
        """Write from now on as `settings` say; the file stays the one that it was."""
        self._configure(settings)
        self.start()

    def start(self) -> None:
        """Begin to write; harmless when that has begun."""
        if self.enabled and not self._thread.is_alive():
            if self._path:
                self._descriptor = _open(self._path)
            self._thread.start()

    def close(self) -> None:
        """Write what is left, waiting at most a second for a reader that does not read."""
        if self._thread.is_alive():
            self.write(())
            # A reader that is gone or asleep loses what waits for it.
            with contextlib.suppress(queue.Full):
                self._queue.put(_Order.END, timeout=1)
                self._thread.join(timeout=1)

    def reopen(self) -> None:
        """Open the file again, because it was moved away; lines that wait still go to the old one."""
        # A full queue is drained by whoever holds up the file: there will be another signal.
        if self._path and self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put_nowait(_Order.REOPEN)

    def relay(self, record: RelayRecord) -> None:
        """Note a finished relay of an opaque port."""
        if self.enabled:
            self._relays.append(record)
            if len(self._relays) >= _BATCH:
                self.write(())

    def write(self, exchanges: Sequence[Exchange]) -> None:
        """Hand the lines of `exchanges`, and those of relays so far, to the writing thread."""
        if not self.enabled:
            return
        form, skipped = self._form, self._skipped
        if skipped:
            exchanges = [exchange for exchange in exchanges if exchange.head.path not in skipped]
        lines = [form(exchange) for exchange in exchanges]
        if self._relays:
            relay_form = access_lines.relay_json if self._json else access_lines.relay_text
            lines += [relay_form(record, self._moment) for record in self._relays]
        self._relays.clear()
        # Only now: what has ended since the last tick has ended in the second before this one.
        self._tell_time()
        if lines:
            try:
                self._queue.put_nowait(b"".join(lines))
            except queue.Full:
                self.dropped += len(lines)

    def _configure(self, settings: AccessLogSettings) -> None:
        self.enabled = settings.enabled
        self._json = settings.format == "json"
        self._skipped = frozenset(path.encode() for path in settings.skip)
        moment = self._moment
        if settings.format in ("text", "json"):
            form: Callable[[Exchange, Moment], bytes] = access_lines.json_line if self._json else access_lines.text_line
            self._form = lambda exchange: form(exchange, moment)
        else:
            template = INGRESS_NGINX if settings.format == "ingress-nginx" else settings.format
            self._form = line_of(template, settings.escape, moment)
        self._tell_time()

    def _tell_time(self) -> None:
        wall = self._clock.wall
        if wall != self._second:
            self._second = wall
            moment, then = self._moment, time.gmtime(wall)
            moment.iso = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", then).encode()
            moment.local = time.strftime("%d/%b/%Y:%H:%M:%S +0000", then).encode()
            moment.offset = wall - self._clock.now

    def _run(self) -> None:
        while (taken := self._queue.get()) is not _Order.END:
            if isinstance(taken, bytes):
                self._put(taken)
            else:
                descriptor = _open(self._path)
                if self._descriptor >= 0:
                    os.close(self._descriptor)
                self._descriptor = descriptor

    def _put(self, batch: bytes) -> None:
        view = memoryview(batch)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:
                # Somebody made our standard output non-blocking; the writer may wait, the loop does not.
                time.sleep(0.01)  # noqa: TID251 - a thread of its own; there is no event to wait for
            except OSError:
                self.dropped += batch.count(b"\n")
                return


def _open(path: str) -> int:
    """Return a descriptor that appends to the file, or -1, which loses and counts all lines."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
    except OSError as error:
        _log.error("the access log %s cannot be opened, its lines are lost: %s", path, error.strerror)
        return -1
