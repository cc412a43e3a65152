"""Which changes wait for a moment of quiet, and which are published at once."""

from __future__ import annotations

from collections.abc import Callable

from portway_operator.objects import EndpointSlice, Kind
from portway_operator.rebuild import Rebuild
from portway_operator.sources.intake import Change

__all__ = ["steer"]


def steer(rebuild: Rebuild) -> Callable[[Change], None]:
    """Return what to do about a change: a whole compile soon, or only the endpoints of a Service, at once."""

    def take(change: Change) -> None:
        if change.kind is not Kind.ENDPOINT_SLICE or change.before == change.after:
            rebuild.poke()
            return
        slices = (one for one in (change.before, change.after) if isinstance(one, EndpointSlice) and one.service)
        # A slice may move from one Service to another.
        for service in {(one.meta.namespace, one.service) for one in slices}:
            rebuild.endpoint_changed(*service)

    return take
