"""Sets of addresses as ranges, and whether one is within another."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_network
from typing import Final, TypeAlias

__all__ = ["EVERYBODY", "NOBODY", "Ranges", "admitted", "within"]

Ranges: TypeAlias = tuple[tuple[int, int], ...]
"""Addresses from the first number to the last, sorted and apart; those of IPv6 stand behind those of IPv4."""

_OLD: Final = 1 << 32
_LAST: Final = _OLD + (1 << 128) - 1

EVERYBODY: Final[Ranges] = ((0, _LAST),)
NOBODY: Final[Ranges] = ()


@lru_cache(maxsize=1024)
def admitted(allow: tuple[str, ...], deny: tuple[str, ...]) -> Ranges:
    """Return the addresses of `allow` (everybody, without any) that are not in `deny`."""
    return _without(_ranges(allow) if allow else EVERYBODY, _ranges(deny))


def within(inner: Ranges, outer: Ranges) -> bool:
    """Return whether every address of `inner` is one of `outer` too."""
    return not _without(inner, outer)


def _ranges(networks: Iterable[str]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(map(_range, networks)):
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _range(text: str) -> tuple[int, int]:
    network = ip_network(text, strict=False)
    base = 0 if network.version == 4 else _OLD
    return base + int(network.network_address), base + int(network.broadcast_address)


def _without(some: Ranges, others: Ranges) -> Ranges:
    """Return what of `some` is not in `others`, in one walk through both."""
    left: list[tuple[int, int]] = []
    at = 0
    for first, end in some:
        start = first
        while at < len(others) and others[at][1] < start:
            at += 1
        look = at
        while look < len(others) and others[look][0] <= end:
            if others[look][0] > start:
                left.append((start, others[look][0] - 1))
            start = others[look][1] + 1
            look += 1
        if start <= end:
            left.append((start, end))
    return tuple(left)
