"""What holds for all tests."""

from __future__ import annotations

import asyncio


def pytest_sessionstart() -> None:
    # looptime asks for the event loop around plain tests too. Until one was ever set, asking makes one, which nobody
    # closes: its ResourceWarning would fail some later test, or the end of the session.
    asyncio.set_event_loop(None)
