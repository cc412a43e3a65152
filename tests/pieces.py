"""Byte strings in pieces, as a network may deliver them."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

__all__ = ["cuts", "in_pieces"]

cuts = st.lists(st.floats(0, 1), max_size=12)
"""Places where a byte string is cut, as shares of its length."""


def in_pieces(data: bytes, places: list[float]) -> list[bytes]:
    """Return `data` cut at `places`, without empty pieces."""
    marks = sorted({0, len(data), *(round(place * len(data)) for place in places)})
    return [data[start:end] for start, end in pairwise(marks)]
