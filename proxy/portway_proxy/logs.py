"""Log lines of the processes on standard error: `level name message`, or objects of JSON."""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from typing import Final

__all__ = ["log_to_stderr"]

_STDERR: Final = 2
_WAITING: Final = 1000  # Lines that may wait for who reads standard error; further ones are dropped and counted.
_PATIENCE: Final = 1.0  # Seconds that the end of a process waits for the last lines to be read.


class _Lines(logging.Formatter):
    """One line for each record, with its level in lower case."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        # A name or value in a message must not be able to begin a line of its own.
        message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return f"{record.levelname.lower()} {record.name} {message}"


class _Objects(logging.Formatter):
    """One object of JSON for each record, in the form of the access lines."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, separators=(",", ":"))


class _Aside(logging.Handler):
    """Has a thread write: a reader of standard error that does not read costs lines, never anybody's time."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Have the record written; nobody else is here meanwhile, as `handle` sees to it."""
        if not self._thread.is_alive():
            self._thread.start()
        lines = f"{self.format(self._loss())}\n" if self._dropped else ""
        try:
            self._lines.put_nowait(f"{lines}{self.format(record)}\n")
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def flush(self) -> None:
        """Wait a moment for what was logged so far to be read."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, _PATIENCE)

    def _loss(self) -> logging.LogRecord:
        said = "%d lines were lost here, because nobody read them"
        return logging.LogRecord(__name__, logging.WARNING, __file__, 0, said, (self._dropped,), None)

    def _run(self) -> None:
        while True:
            self._put(self._lines.get())
            self._lines.task_done()

    def _put(self, line: str) -> None:
        # Not by way of `sys.stderr`: its lock, held by a thread that waits, would abort the end of the process.
        view = memoryview(line.encode(errors="backslashreplace"))
        while view:
            try:
                view = view[os.write(_STDERR, view) :]
            except BlockingIOError:
                # Whoever shares it made it non-blocking.
                time.sleep(0.01)  # noqa: TID251 - a thread of its own; there is no event to wait for
            except OSError:
                return  # Nobody will ever read it.


def log_to_stderr(level: int = logging.INFO, *, log_format: str = "text") -> None:
    """Write what is logged from `level` on to standard error, in the place of whatever was set up before.

    With the `log_format` `json` each line is an object; with every other one of the access log it is text.
    """
    handler = _Aside()
    handler.setFormatter(_Objects() if log_format == "json" else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
