"""Keeps Python's garbage collector from walking a whole cluster's objects in the middle of an event."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["begin", "settle"]

# Objects made since the last look at young ones: 50,000 are looked at in 5 ms, and those that live on seldom again.
_SELDOM: Final = (50_000, 50, 100)


def begin() -> None:
    """Look for garbage seldom, and never again at what lives now; to be called before anything is waited for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_SELDOM)


def settle() -> None:
    """Put everything that lives now out of the collector's sight; to be called once everything was listed.

    A full collection would take 200 ms with 25,000 objects, and would come every few thousand events. None is made
    here either: what is read goes when nobody needs it any more, and only what refers to itself waits for a collector.
    """
    gc.freeze()
