"""Log lines of the processes: `level name message` on standard error."""

from __future__ import annotations

import logging
import sys

__all__ = ["log_to_stderr"]


class _Lines(logging.Formatter):
    """One line for each record, with its level in lower case."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the standard library's name
        # A name or value in a message must not be able to begin a line of its own.
        message = record.message.replace("\r", "\\r").replace("\n", "\\n")
        return f"{record.levelname.lower()} {record.name} {message}"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write what is logged from `level` on to standard error, in the place of whatever was set up before."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
