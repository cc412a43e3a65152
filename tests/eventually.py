"""Waiting for something to become true, with a deadline instead of luck."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["eventually"]


async def eventually(claim: Callable[[], object], seconds: float = 10.0, what: str = "") -> None:
    """Return as soon as `claim` is true; fail with `what` after `seconds`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not claim():
        if loop.time() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what or claim}")
        await asyncio.sleep(0.01)
