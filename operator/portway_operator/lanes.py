"""Which changes wait for a moment of quiet, and which are published at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from portway_operator.causes import cause_of, services_of
from portway_operator.objects import Kind
from portway_operator.rebuild import Rebuild
from portway_operator.sources.intake import Change

__all__ = ["steer"]


def steer(rebuild: Rebuild) -> Callable[[Change], None]:
    """Return what to do about a change: a whole compile soon, or only the endpoints of a Service, at once."""

    def take(change: Change) -> None:
        services = services_of(change)
        compiles = change.kind is not Kind.ENDPOINT_SLICE or change.before == change.after
        if (services or compiles) and not change.dropped:
            rebuild.causes.note(cause_of(change, datetime.now(UTC)), services)
        for service in services:
            rebuild.endpoint_changed(*service)
        if compiles:
            rebuild.poke()

    return take
