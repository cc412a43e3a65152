"""Tells every operator what a proxy serves: each has a sender of its own, so that a slow one holds up no other."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from portway_proxy.dial import OperatorRefused, Operators, Target, Unreachable
from portway_proxy.stream import Ack, Verdict, Watch
from portway_proxy.tasks import Tasks

__all__ = ["Acks"]

_log = logging.getLogger(__name__)

_AGAIN: Final = 1.0  # Seconds until an acknowledgement that could not be sent is tried again.
_REJECTIONS: Final = 16  # Kept for an operator that does not answer; the newest matter.
_GOODBYE: Final = 1.0


class Acks:
    """What the operators of `follow` are told.

    Every operator is told, not only the one whose stream is followed: the one that writes status may be another.
    `watched` hears of those that answer that they want reports.
    """

    def __init__(
        self, operators: Operators, watched: Callable[[Target, Watch], None] = lambda _target, _watch: None
    ) -> None:
        self._operators = operators
        self._watched = watched
        self._tasks = Tasks()
        self._senders: dict[Target, tuple[_Sender, asyncio.Task[None]]] = {}
        self._last: Ack | None = None

    def follow(self, targets: Iterable[Target]) -> None:
        """Make `targets` all operators that are told; a new one hears at once what is served."""
        wanted = set(targets)
        for target in [target for target in self._senders if target not in wanted]:
            self._senders.pop(target)[1].cancel()
        for target in wanted - self._senders.keys():
            sender = _Sender(self._operators, target, self._watched)
            self._senders[target] = sender, self._tasks.spawn(sender.run(), f"acknowledgements to {target}")
            if self._last is not None:
                sender.put(self._last)

    def put(self, ack: Ack) -> None:
        """Tell all operators, soon."""
        if ack.status is Verdict.APPLIED:
            self._last = ack
        for sender, _ in self._senders.values():
            sender.put(ack)

    def repeat(self) -> None:
        """Say once more what is served: an operator that has just started has not heard it."""
        if self._last is not None:
            self.put(self._last)

    async def leave(self, node: str) -> None:
        """Say goodbye to all that are there, and tell nobody anything more."""
        await self._tasks.close()
        goodbye = Ack(node, "0", 0, "", Verdict.LEAVING)
        farewells = [_Sender(self._operators, target, self._watched).post(goodbye) for target in self._senders]
        with suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE):
                await asyncio.gather(*farewells)


class _Sender:
    """What one operator is still to be told: every rejection, and the newest of what is served."""

    def __init__(self, operators: Operators, target: Target, watched: Callable[[Target, Watch], None]) -> None:
        self._operators = operators
        self._watched = watched
        self._target = target
        self._rejections: deque[Ack] = deque(maxlen=_REJECTIONS)
        self._applied: Ack | None = None
        self._work = asyncio.Event()

    def put(self, ack: Ack) -> None:
        if ack.status is not Verdict.REJECTED:
            self._applied = ack
        elif ack not in self._rejections:
            self._rejections.append(ack)
        self._work.set()

    async def run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while (ack := self._next()) is not None:
                if await self.post(ack):
                    self._done(ack)
                else:
                    await asyncio.sleep(_AGAIN)

    async def post(self, ack: Ack) -> bool:
        """Return whether the operator took it."""
        try:
            watch = await self._operators.send(self._target, ack)
        except (OperatorRefused, Unreachable) as error:
            _log.debug("%s takes no acknowledgement: %s", self._target, error)
            return False
        if watch.seconds and ack.status is not Verdict.LEAVING:
            self._watched(self._target, watch)
        return True

    def _next(self) -> Ack | None:
        return self._rejections[0] if self._rejections else self._applied

    def _done(self, ack: Ack) -> None:
        if self._applied is ack:
            self._applied = None
        with suppress(ValueError):
            self._rejections.remove(ack)
