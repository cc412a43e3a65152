"""What gRPC has of its own over HTTP/2: deadlines, and statuses behind the body (its "PROTOCOL-HTTP2")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from portway_proxy.clock import NEVER
from portway_proxy.l7.lookup import field

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["deadline_of"]

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_SECONDS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}


def deadline_of(exchange: Exchange) -> float:
    """Return when the client gives up, in seconds of the loop's clock; `NEVER` when it does not say."""
    value = field(exchange.head.lines, b"grpc-timeout")
    found = _TIMEOUT.fullmatch(value) if value else None
    return NEVER if found is None else exchange.started + int(found[1]) * _SECONDS[found[2]]
