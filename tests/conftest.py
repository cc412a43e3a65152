"""What holds for all tests."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# A busy machine is no finding: no example has a deadline, and making them may take its time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_sessionstart() -> None:
    # looptime asks for the event loop around plain tests too. Until one was ever set, asking makes one, which nobody
    # closes: its ResourceWarning would fail some later test, or the end of the session.
    asyncio.set_event_loop(None)
