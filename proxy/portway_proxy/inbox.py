"""What came over the stream and is not applied yet, merged into as little as there is to do."""

from __future__ import annotations

import msgspec

from portway_proxy.deltas import join, patch
from portway_proxy.errors import BadSnapshot, ProxyError
from portway_proxy.stream import DeltaMessage, SnapshotMessage

__all__ = ["Gap", "Inbox", "Pending"]


class Gap(ProxyError):
    """A delta that is for other content than what came before it."""

    reason = "gap"


class Pending(msgspec.Struct, frozen=True):
    """A change to apply, and the epoch of the operator that it came from."""

    epoch: str
    change: SnapshotMessage | DeltaMessage


class Inbox:
    """At most one change, which stands for all that came since `take`.

    A burst of deltas costs one apply, and a snapshot makes everything before it moot.
    """

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: Pending | None = None

    def __bool__(self) -> bool:
        return self._pending is not None

    def put(self, epoch: str, change: SnapshotMessage | DeltaMessage) -> None:
        """Take in a change. Raises `Gap` when it does not follow from the one before."""
        before = self._pending
        if before is not None and isinstance(change, DeltaMessage):
            change = _merge(before.change, change)
        self._pending = Pending(epoch, change)

    def take(self) -> Pending | None:
        """Return what is to be applied now; None when there is nothing."""
        taken, self._pending = self._pending, None
        return taken

    def clear(self) -> None:
        """Forget what has not been taken."""
        self._pending = None


def _merge(before: SnapshotMessage | DeltaMessage, delta: DeltaMessage) -> SnapshotMessage | DeltaMessage:
    if delta.base != before.hash:
        raise Gap(f"the delta is for the snapshot {delta.base}, the one before it is {before.hash}")
    if isinstance(before, DeltaMessage):
        return DeltaMessage.of(join(before.delta(), delta.delta()), delta.v)
    try:
        snapshot = patch(before.snapshot, delta.upstreams, delta.changes)
    except BadSnapshot as error:
        raise Gap(str(error)) from None
    return SnapshotMessage(delta.v, delta.hash, snapshot)
