"""The annotations of an Ingress that say how much one client address may ask for."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import count
from portway_operator.parse_http import some_networks

__all__ = ["LimitAnnotations"]

_MOST = 1_000_000
_LIMITS = ("limit_rps", "limit_rpm", "limit_connections")
_WORKERS = close("Each worker process counts for itself: a client with several connections may get more.")


@dataclass(frozen=True)
class LimitAnnotations:
    """What the annotations of an Ingress say about limits; what is more gets 503."""

    limit_rps: int = row(
        "limit-rps",
        count(0, _MOST),
        default=0,
        makes="limit",
        doc="The requests of one client address in a second; 0 is no limit.",
        nginx="limit-rps",
        fidelity=_WORKERS,
    )
    limit_rpm: int = row(
        "limit-rpm",
        count(0, _MOST),
        default=0,
        makes="limit",
        doc="The requests of one client address in a minute; 0 is no limit.",
        nginx="limit-rpm",
        fidelity=_WORKERS,
    )
    limit_burst_multiplier: int = row(
        "limit-burst-multiplier",
        count(1, 1000),
        default=5,
        makes="limit",
        doc="So many times the rate may come at once.",
        nginx="limit-burst-multiplier",
        requires=("limit_rps", "limit_rpm"),
    )
    limit_connections: int = row(
        "limit-connections",
        count(0, _MOST),
        default=0,
        makes="limit",
        doc="The requests of one client address that may be under way; 0 is no limit.",
        nginx="limit-connections",
        fidelity=_WORKERS,
    )
    limit_allowlist: tuple[str, ...] = row(
        "limit-allowlist",
        some_networks,
        default=(),
        makes="limit",
        doc="The networks whose clients have no such limit.",
        nginx=("limit-allowlist", "limit-whitelist"),
        requires=_LIMITS,
    )
