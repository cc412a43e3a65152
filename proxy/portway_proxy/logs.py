"""Log lines of the processes on standard error: `level name message`, or objects of JSON."""

from __future__ import annotations

import json
import logging
import sys
import time

__all__ = ["log_to_stderr"]


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


def log_to_stderr(level: int = logging.INFO, *, log_format: str = "text") -> None:
    """Write what is logged from `level` on to standard error, in the place of whatever was set up before.

    With the `log_format` `json` each line is an object; with every other one of the access log it is text.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Objects() if log_format == "json" else _Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
