"""What follows from a proxy's rejection: the object to blame is left out, so that all others are served."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from portway_operator.objects import Kind
from portway_operator.publish import Rejection
from portway_operator.store import ObjectStore
from portway_proxy.history import Action, Cause

__all__ = ["exclude_rejected"]

_log = logging.getLogger(__name__)

# An origin as its `str` begins: the proxy quotes it.
_RESOURCE = re.compile(r"(Ingress|Service) ([a-z0-9-]+)/([a-z0-9.-]+)")
_LONGEST: Final = 300


def exclude_rejected(store: ObjectStore, changed: Callable[[Cause], None]) -> Callable[[Rejection], None]:
    """Return what to do about a rejection: the object that it names is refused, and `changed` told so.

    A proxy that names none keeps what it served; it gets every later snapshot, and tries again now and then.
    """

    def take(rejection: Rejection) -> None:
        found = _RESOURCE.fullmatch(rejection.resource)
        if found is None:
            return
        reason = rejection.error[:_LONGEST].rstrip(".")
        if store.refuse(Kind(found[1]), found[2], found[3], reason):
            _log.error("%s is left out: %s cannot apply it", rejection.resource, rejection.node)
            changed(Cause(found[1], found[2], found[3], Action.REFUSED, rejection.node, datetime.now(UTC)))

    return take
