"""Tracing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from portway_proxy.metrics import Sample

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange


class Span:
    """x."""

    trace: bytes
    id: bytes


class Tracer:
    """x."""

    def begin(self, exchange: Exchange) -> None:
        """X."""

    def take(self, batch: list[Exchange]) -> None:
        """X."""

    def close(self) -> None:
        """X."""

    def samples(self) -> Iterator[Sample]:
        """X."""
        yield from ()
