"""The annotations of ingress-nginx that are not built, each with the reason: they are never ignored without a word."""

from __future__ import annotations

from portway_operator.annotations.rows import Row

__all__ = ["UNBUILT"]

UNBUILT: tuple[Row, ...] = ()
