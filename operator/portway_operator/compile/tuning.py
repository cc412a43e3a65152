"""What a ConfigMap says of the proxies' limits and timeouts (`portway_proxy.tuning`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from portway_operator.parse import count, seconds, size
from portway_proxy.tuning import ROWS, Row, Setting, Unit

__all__ = ["BUFFERS", "KEYS", "parse", "settings"]

_ROWS: Final = {row.name: row for row in ROWS}
_HEAD: Final = ("request-line-size", "field-size", "head-size")

BUFFERS: Final = "large-client-header-buffers"
"""ingress-nginx's key for the three sizes of a head; what their own keys say counts."""

KEYS: Final = (*_ROWS, BUFFERS)
"""Every key, as the documentation orders them."""


def parse(name: str, value: str) -> Mapping[str, float]:
    """Return the settings that a key and its value come to; raises ValueError with what is wrong."""
    if name == BUFFERS:
        return _buffers(value)
    row = _ROWS[name]
    if row.unit is Unit.SECONDS:
        return {name: seconds(row.least, row.most)(value)}
    if row.unit is Unit.NUMBER:
        return {name: count(int(row.least), int(row.most))(value)}
    return {name: _sized(row, value)}


def settings(values: Mapping[str, float]) -> tuple[Setting, ...]:
    """Return the settings as a snapshot holds them."""
    # A whole number is encoded as one, is read as what it is declared to be, and would have another digest then.
    return tuple(sorted(Setting(name, float(value)) for name, value in values.items()))


def _sized(row: Row, value: str) -> int:
    found = size(value)
    if not row.least <= found <= row.most:
        raise ValueError(f"it is not from {row.least:g} to {row.most:g} bytes")
    return found


def _buffers(value: str) -> dict[str, float]:
    """Return the sizes that `4 8k` stands for: each line of a head fits into a buffer, the head into all of them."""
    found = re.fullmatch(r"([1-9][0-9]?) +([0-9]+[kKmM]?)", value)
    if found is None:
        raise ValueError("it is no number and size such as 4 8k")
    one = size(found[2])
    sizes = dict(zip(_HEAD, (one, one, one * int(found[1])), strict=True))
    return {name: _sized(_ROWS[name], str(given)) for name, given in sizes.items()}
