"""How many clients a worker's descriptors allow: each client needs one more for its endpoint."""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["TooFewDescriptors", "allowed", "most_connections", "raise_limit"]

_EACH: Final = 2  # A client's connection, and one to an endpoint.

# What a worker needs for itself: a dozen for the loop, the channel and the log, a hundred listeners, its farewells.
_OWN: Final = 96


class TooFewDescriptors(OSError):
    """The process may not open what it is to serve; the message is a sentence for the user."""


def raise_limit() -> None:
    """Take as many descriptors as we may have: each connection is one, and workers inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def allowed() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


def most_connections(wanted: int, descriptors: int) -> int:
    """Return how many clients a worker with so many descriptors takes: `wanted`, or for 0 what they allow.

    Raises `TooFewDescriptors` when they do not allow that.
    """
    possible = (descriptors - _OWN) // _EACH
    if possible < max(wanted, 1):
        needed = _OWN + _EACH * max(wanted, 1)
        raise TooFewDescriptors(
            f"{max(wanted, 1)} connections for each worker need {needed} descriptors, and this process may have "
            f"{descriptors}: raise the limit (ulimit -n), or lower max-worker-connections"
        )
    return wanted or possible
