"""Follows the operator: applies what it sends, says what became of it, and serves on whenever it is away."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from typing import Final

from portway_proxy import codec
from portway_proxy.acks import Acks
from portway_proxy.dial import OperatorRefused, Operators, Target, Unreachable
from portway_proxy.errors import BadSnapshot, ProxyError
from portway_proxy.inbox import Gap, Inbox, Pending
from portway_proxy.last_good import LastGood
from portway_proxy.reports import Reports
from portway_proxy.stream import (
    NOWHERE,
    Ack,
    BadMessage,
    DeltaMessage,
    Hello,
    Lines,
    Message,
    Ping,
    Position,
    Refusal,
    SnapshotMessage,
    Verdict,
    Watch,
    decode,
)
from portway_proxy.supervisor import Supervisor
from portway_proxy.tasks import Tasks

__all__ = ["Backoff", "Feed", "resource_of"]

_log = logging.getLogger(__name__)

_GREETING: Final = 10.0  # Seconds until a hello; an operator that has no snapshot yet may have a neighbour that does.

_LOOK: Final = 30.0  # Seconds between two looks at who the operators are.
_REASONS: Final = 100

# An origin as `BadSnapshot` begins with it: `Ingress shop/web spec.rules[0]`.
_RESOURCE = re.compile(r"([A-Z][A-Za-z]+ [a-z0-9.-]+(?:/[a-z0-9.-]+)?)[ :]")


class Backoff:
    """Pauses that double from 0.2 s to 5 s, each shortened at random by up to a half."""

    __slots__ = ("_pause",)

    _FIRST: Final = 0.2
    _MOST: Final = 5.0

    def __init__(self) -> None:
        self._pause = self._FIRST

    def reset(self) -> None:
        """Begin anew."""
        self._pause = self._FIRST

    def next(self) -> float:
        """Return the seconds to wait now."""
        pause, self._pause = self._pause, min(self._pause * 2, self._MOST)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret


class Feed:
    """Keeps what `supervisor` serves equal to what the operators say, from `start` to `close`.

    `position` is where it is in the history of the operator that it follows or followed last.
    """

    def __init__(
        self, supervisor: Supervisor, operators: Operators, node: str, last_good: LastGood | None = None
    ) -> None:
        self.position = NOWHERE
        self._supervisor = supervisor
        self._operators = operators
        self._node = node
        self._last_good = last_good
        self._reports = Reports(operators, supervisor, node)
        self._acks = Acks(operators, self._reports.watch)
        self._tasks = Tasks()
        self._inbox = Inbox()
        self._work = asyncio.Event()
        self._idle = asyncio.Event()
        self._backoff = Backoff()
        self._target: Target | None = None
        self._hello: Hello | None = None
        self._scope: asyncio.Timeout | None = None
        self._refused = ""
        self._lost_track = False
        self._troubles: set[str] = set()

    async def start(self) -> None:
        """Serve the last good snapshot, if there is one, and begin to follow."""
        self._supervisor.stale = True
        if self._last_good is not None:
            await self._restore(self._last_good)
            self._tasks.spawn(self._last_good.run(), "last good snapshot")
        self._idle.set()
        self._tasks.spawn(self._apply_all(), "apply")
        self._tasks.spawn(self._follow_all(), "follow the operator")
        self._tasks.spawn(self._look_around(), "look for operators")

    async def close(self) -> None:
        """Stop following, and say so; what is served stays."""
        await self._tasks.close()
        await self._reports.close()
        await self._acks.leave(self._node)
        await self._operators.close()
        if self._last_good is not None:
            await self._last_good.flush()

    async def _restore(self, last_good: LastGood) -> None:
        snapshot = await asyncio.to_thread(last_good.load)
        if snapshot is None:
            return
        try:
            await self._supervisor.apply(snapshot)
        except BadSnapshot as error:
            _log.error("the last good snapshot cannot be served: %s", error)
            return
        self.position = Position("0", 0, self._supervisor.digest)
        _log.info("serving the last good snapshot until an operator answers")

    # --- following

    async def _follow_all(self) -> None:
        """Follow one operator after the other, for ever."""
        while True:
            try:
                targets = await self._operators.resolve()
            except Unreachable as error:
                self._lost(error)
            else:
                self._acks.follow(targets)
                # Whoever was just lost comes last.
                for target in sorted(targets, key=lambda target: target == self._target):
                    if await self._follow(target):
                        break
            await asyncio.sleep(self._backoff.next())

    async def _look_around(self) -> None:
        """Find operators that came while one is followed: they hear what is served here, for they may write status."""
        while True:
            await asyncio.sleep(_LOOK)
            try:
                found = set(await self._operators.resolve())
            except Unreachable:
                continue
            self._acks.follow(found | ({self._target} if self._hello is not None and self._target else set()))

    async def _follow(self, target: Target) -> bool:
        """Follow an operator until it is lost; return whether it was ever there."""
        self._target = target
        # What is still to be applied would make a stranger of the answer to where we are.
        await self._idle.wait()
        try:
            async with asyncio.timeout(_GREETING) as self._scope:
                await self._read(target)
        except TimeoutError:
            self._lost(Unreachable("it does not say hello" if self._hello is None else "a new snapshot is needed"))
        except ProxyError as error:
            self._lost_track |= isinstance(error, BadMessage | Gap)
            self._lost(error)
        except Exception as error:  # noqa: BLE001 - following must go on; it is logged
            _log.exception("cannot follow %s", target)
            self._lost(Unreachable(type(error).__name__))
        greeted, self._hello, self._scope = self._hello is not None, None, None
        return greeted

    async def _read(self, target: Target) -> None:
        position = NOWHERE if self._lost_track else self.position
        lines = Lines()
        snapshot = self._supervisor.snapshot
        untold = snapshot is not None and not snapshot.sources
        async with self._operators.stream(target, self._node, position, untold=untold) as stream:
            async for data in stream.iter_any():
                for line in lines.feed(data):
                    if (message := decode(line)) is not None:
                        self._take(message)
        raise Unreachable("it closed the stream")

    def _take(self, message: Message) -> None:
        match message:
            case Hello():
                self._greet(message)
            case Ping():
                self._acks.repeat()
                if self._hello is not None:
                    self._backoff.reset()
            case Watch():
                if self._target is not None:
                    self._reports.watch(self._target, message)
            case Refusal(error):
                raise OperatorRefused(error)
            case _ if self._hello is None:
                raise BadMessage("the operator did not say hello")
            case _:
                self._lost_track = False
                self._inbox.put(self._hello.epoch, message)
                self._idle.clear()
                self._work.set()

    def _greet(self, hello: Hello) -> None:
        if hello.schema != codec.SCHEMA:
            raise OperatorRefused(f"it speaks schema version {hello.schema}, this proxy knows {codec.SCHEMA}")
        self._hello = hello
        self._troubles.clear()
        if self._scope is not None:
            self._scope.reschedule(None)
        _log.info("following %s, %s, at version %d", self._target, hello.server, hello.v)
        if hello.same:
            self._serves(Position(hello.epoch, hello.v, hello.hash), 0.0)

    def _lost(self, error: ProxyError) -> None:
        self._supervisor.stale = True
        if self._hello is not None:
            _log.info("lost %s: %s", self._target, error)
            return
        trouble = f"{self._target}: {error}" if self._target is not None else str(error)
        # An operator may be away for hours: each reason is said once.
        if trouble not in self._troubles and len(self._troubles) < _REASONS:
            self._troubles.add(trouble)
            _log.warning("no operator to follow, serving on: %s", trouble)

    # --- applying

    async def _apply_all(self) -> None:
        """Apply what comes, whatever becomes of the stream meanwhile: an apply that was begun is finished."""
        while True:
            await self._work.wait()
            self._work.clear()
            while (pending := self._inbox.take()) is not None:
                await self._apply(pending)
            self._idle.set()

    async def _apply(self, pending: Pending) -> None:
        change = pending.change
        if isinstance(change, DeltaMessage) and change.base != self._supervisor.digest:
            self._skip(change)
            return
        position = Position(pending.epoch, change.v, change.hash)
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._hand_over(change)
        except BadSnapshot as error:
            if not self._supervisor.draining:
                self._reject(position, str(error))
        except Exception as error:  # noqa: BLE001 - the next change must find somebody; it is logged
            _log.exception("cannot apply version %d", change.v)
            self._reject(position, f"{type(error).__name__}: {error}")
        else:
            self._refused = ""
            self._serves(position, (loop.time() - began) * 1000)

    async def _hand_over(self, change: SnapshotMessage | DeltaMessage) -> None:
        if isinstance(change, DeltaMessage):
            await self._supervisor.patch(change.delta())
        elif change.hash == self._supervisor.digest:
            self._supervisor.retell(change.snapshot.sources)
        else:
            await self._supervisor.apply(change.snapshot, change.hash)

    def _skip(self, delta: DeltaMessage) -> None:
        """Leave out what is for other content than is served: after a rejection a snapshot follows, else we ask."""
        if delta.base == self._refused:
            self._refused = delta.hash
            return
        self._lost_track = True
        if self._scope is not None and not self._scope.expired():
            self._scope.reschedule(asyncio.get_running_loop().time())

    def _serves(self, position: Position, took: float) -> None:
        self.position = position
        self._supervisor.stale = self._hello is None
        self._acks.put(
            Ack(self._node, position.epoch, position.version, position.digest, Verdict.APPLIED, took_ms=round(took, 3))
        )
        if self._last_good is not None and self._supervisor.snapshot is not None:
            self._last_good.note(self._supervisor.snapshot)

    def _reject(self, position: Position, error: str) -> None:
        self._refused = position.digest
        self._supervisor.stale = True
        rejected = Verdict.REJECTED
        ack = Ack(self._node, position.epoch, position.version, position.digest, rejected, error, resource_of(error))
        self._acks.put(ack)


def resource_of(error: str) -> str:
    """Return the object that a rejection names (`Ingress shop/web`); empty when it names none."""
    found = _RESOURCE.match(error)
    return found[1] if found else ""
