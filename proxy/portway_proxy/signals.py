"""Signals that a program hears from its beginning to its end, and not only once everything runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

__all__ = ["ENDING", "heard"]

ENDING: Final = (signal.SIGTERM, signal.SIGINT)
"""What asks a program to end."""


@contextmanager
def heard(handlers: Mapping[signal.Signals, Callable[[], object]]) -> Iterator[None]:
    """Have the running loop call these handlers of signals, in the main thread alone, until the end of the context.

    Whoever waits for a port to answer may signal at once: this has to begin before the first port opens.
    """
    loop = asyncio.get_running_loop()
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)
