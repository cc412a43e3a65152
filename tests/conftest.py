"""What holds for all tests."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no finding: no example has a deadline, and making them may take its time.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_sessionstart() -> None:
    # looptime asks for the event loop around plain tests too. Until one was ever set, asking makes one, which nobody
    # closes: its ResourceWarning would fail some later test, or the end of the session.
    asyncio.set_event_loop(None)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    # Commands that a test runs in this process set logging up for themselves, on a stream that ends with the test.
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
