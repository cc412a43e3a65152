"""What is published, in versions, and how far every proxy has come."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Final, TypeVar

from portway_operator.backlog import Backlog
from portway_operator.rebuild import Update
from portway_operator.reported import Reported
from portway_operator.subscription import Subscription
from portway_proxy.codec import SCHEMA
from portway_proxy.deltas import Delta
from portway_proxy.stream import (
    Ack,
    DeltaMessage,
    Hello,
    Ping,
    Position,
    Report,
    SnapshotMessage,
    Verdict,
    encode,
)

__all__ = ["Counts", "Proxy", "Publisher", "Rejection"]

T = TypeVar("T")

_log = logging.getLogger(__name__)

_SERVER: Final = f"portway/{version('portway')}"
_HISTORY: Final = 1000  # Versions whose content and time are remembered.
_PROXIES: Final = 2048  # More is nobody's fleet; it bounds what a stolen token can fill.

# A proxy repeats its last word every ten seconds: three were lost.
_ABSENT: Final = 35.0


@dataclass(slots=True)
class Proxy:
    """One proxy as it was heard of last; times are the event loop's.

    `version` is the newest of ours that it serves, 0 when none is known; `digest` is the content it serves.
    `streaming`: it follows us, and not another operator, `since` so many seconds after the epoch. `error` and
    `resource` say why it rejected the version `rejected`; empty once it serves what came later. `took_ms` is how long
    its last change took, in milliseconds.
    """

    node: str
    version: int = 0
    digest: str = ""
    streaming: bool = False
    since: float = field(default=0.0, compare=False)
    seen: float = 0.0
    took_ms: float = 0.0
    rejected: int = 0
    error: str = ""
    resource: str = ""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A proxy cannot apply what was published; `resource` is the object to blame (`Ingress shop/web`), or empty."""

    node: str
    digest: str
    error: str
    resource: str


@dataclass(slots=True)
class Counts:
    """What has happened so far."""

    streams: int = 0
    snapshots: int = 0
    deltas: int = 0
    resyncs: int = 0
    rejections: int = 0


@dataclass(slots=True)
class _Version:
    digest: str
    at: float


@dataclass(slots=True)
class _State:
    """What is published now."""

    update: Update | None = None
    message: bytes | None = None
    whole: int = 0  # The newest version that every proxy got as a snapshot.
    wide: int = 0  # The newest that changed more than upstreams.
    history: dict[int, _Version] = field(default_factory=dict)


class Publisher:
    """Numbers what is published and hands it to every subscription; it belongs to the event loop's thread.

    `epoch` names this run. `version` counts what was published, the last at `published_at` (seconds since the epoch); 0
    is nothing yet. `on_ack` are called with a proxy
    whenever it serves another version, `on_rejection` whenever one cannot. `reported` is what they tell of themselves
    while somebody looks.
    """

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.version = 0
        self.published_at = 0.0
        self.counts = Counts()
        self.reported = Reported()
        self.on_ack: list[Callable[[Proxy], None]] = []
        self.on_rejection: list[Callable[[Rejection], None]] = []
        self._state = _State()
        self._backlog = Backlog()
        self._subscriptions: dict[str, Subscription] = {}
        self._proxies: dict[str, Proxy] = {}
        self._moved = asyncio.Event()

    # --- publishing

    @property
    def published(self) -> Update | None:
        """Return what is published now."""
        return self._state.update

    @property
    def tells(self) -> bool:
        """Return whether what is published says where its values came from."""
        return self._state.update is not None and bool(self._state.update.snapshot.sources)

    async def publish(self, update: Update) -> None:
        """Make `update` the next version and send it to all proxies; what they make of it is heard later."""
        loop = asyncio.get_running_loop()
        self.version += 1
        self.published_at = time.time()
        self._remember(update, loop.time())
        before = self._state.update
        self._state.update, self._state.message = update, None
        if update.delta is not None and before is not None and update.delta.base == before.digest:
            self._push(update.delta)
        else:
            self._backlog.clear()
            self._state.whole = self._state.wide = self.version
            for subscription in self._subscriptions.values():
                subscription.resync()
        for proxy in self._proxies.values():
            # One that follows another operator may have served it before we had it.
            if not proxy.streaming and proxy.digest == update.digest:
                self._serves(proxy, self.version)

    # --- subscriptions

    def subscribe(self, node: str, position: Position | None, *, wide: bool = True) -> Subscription:
        """Return what a proxy at `position`, which takes `wide` deltas or not, is to be sent.

        An older stream of the same proxy ends.
        """
        if (before := self._subscriptions.get(node)) is not None:
            before.close()
        self.counts.streams += 1
        subscription = self._subscriptions[node] = Subscription(node, position, self, wide=wide)
        proxy = self._heard_of(node)
        proxy.streaming, proxy.since = True, time.time()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription whose stream has ended."""
        subscription.close()
        if self._subscriptions.get(subscription.node) is subscription:
            del self._subscriptions[subscription.node]
            if subscription.node in self._proxies:
                self._heard_of(subscription.node).streaming = False

    def close(self) -> None:
        """End every subscription; what is published stays."""
        for subscription in self._subscriptions.values():
            subscription.close()

    @property
    def subscriptions(self) -> int:
        """Return how many proxies follow us."""
        return len(self._subscriptions)

    def opening(self, position: Position | None, *, wide: bool) -> Sequence[bytes] | None:
        """Return the hello, and what leads from `position` to what is published; None before the first snapshot."""
        if (update := self._state.update) is None:
            return None
        same = position is not None and position.digest == update.digest
        hello = encode(Hello(self.epoch, SCHEMA, _SERVER, self.version, update.digest, same))
        if same:
            return (hello,)
        deltas = self._backlog.since(position.digest, wide=wide) if position is not None else None
        return (hello, *deltas) if deltas is not None else (hello, self.snapshot())

    def snapshot(self) -> bytes:
        """Return the message with all that is published now, encoded once for all who need it."""
        state = self._state
        assert state.update is not None  # noqa: S101 - nobody is greeted before
        if state.message is None:
            state.message = encode(SnapshotMessage(self.version, state.update.digest, state.update.snapshot))
        self.counts.snapshots += 1
        return state.message

    def ping(self) -> bytes:
        """Return a sign of life."""
        return encode(Ping(self.version))

    # --- what proxies say

    @property
    def proxies(self) -> Mapping[str, Proxy]:
        """Return the proxies that are there: they follow us, or were heard of in the last 35 seconds."""
        oldest = asyncio.get_running_loop().time() - _ABSENT
        for proxy in [one for one in self._proxies.values() if not one.streaming and one.seen < oldest]:
            del self._proxies[proxy.node]
        return self._proxies

    def lag(self, proxy: Proxy) -> float:
        """Return for how many seconds there has been something newer than `proxy` serves."""
        if proxy.version >= self.version:
            return 0.0
        history = self._state.history
        oldest = next(iter(history.values()))
        return asyncio.get_running_loop().time() - history.get(proxy.version + 1, oldest).at

    def acknowledge(self, ack: Ack) -> None:
        """Take in what a proxy says of itself."""
        if ack.status is Verdict.LEAVING:
            self._proxies.pop(ack.node, None)
            self._wake()
            return
        if ack.node not in self._proxies and len(self.proxies) >= _PROXIES:
            return
        proxy = self._heard_of(ack.node)
        if ack.status is Verdict.REJECTED:
            self._reject(proxy, ack)
            return
        proxy.digest, proxy.took_ms = ack.hash, ack.took_ms
        proxy.rejected, proxy.error, proxy.resource = 0, "", ""
        if (subscription := self._subscriptions.get(ack.node)) is not None:
            subscription.applied()
        self._serves(proxy, self._version_of(ack))

    def watch(self, seconds: float, endpoints: str = "") -> None:
        """Want reports for so many seconds from now on, and with how these endpoints fare."""
        if self.reported.want(seconds, endpoints):
            # Those that follow another operator hear of it when they acknowledge something.
            line = encode(self.reported.watch)
            for subscription in self._subscriptions.values():
                subscription.tell(line)

    def take(self, report: Report) -> None:
        """Take the report of a proxy that is there."""
        if report.node in self._proxies:
            self.reported.take(report)

    def behind(self, version: int) -> list[Proxy]:
        """Return the proxies that do not serve `version`, or a later one, yet."""
        return [proxy for proxy in self.proxies.values() if proxy.version < version]

    async def applied(self, version: int) -> None:
        """Return once every proxy that is there serves `version` or a later one; at once when there is none."""
        while self.behind(version):
            # A second: a proxy that is gone is not heard of, and nothing else would wake us.
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._moved.wait()

    # --- inside

    def _push(self, delta: Delta) -> None:
        line = encode(DeltaMessage.of(delta, self.version))
        self._backlog.append(delta.base, line, wide=delta.wide)
        self.counts.deltas += 1
        if delta.wide:
            self._state.wide = self.version
        for subscription in self._subscriptions.values():
            self.counts.resyncs += subscription.push(line, wide=delta.wide)

    def _remember(self, update: Update, now: float) -> None:
        history = self._state.history
        history[self.version] = _Version(update.digest, now)
        if len(history) > _HISTORY:
            del history[next(iter(history))]

    def _heard_of(self, node: str) -> Proxy:
        proxy = self._proxies.setdefault(node, Proxy(node))
        proxy.seen = asyncio.get_running_loop().time()
        return proxy

    def _version_of(self, ack: Ack) -> int:
        """Return which version of ours an acknowledgement is about; 0 when it is none that we remember."""
        if ack.epoch == self.epoch:
            return ack.v if ack.v <= self.version else 0
        history = self._state.history
        return next((number for number in reversed(history) if history[number].digest == ack.hash), 0)

    def _serves(self, proxy: Proxy, version: int) -> None:
        changed = proxy.version != version
        proxy.version = version
        if changed:
            _call(self.on_ack, proxy)
            self._wake()

    def _reject(self, proxy: Proxy, ack: Ack) -> None:
        self.counts.rejections += 1
        if (proxy.rejected, proxy.error) != (rejected := self._version_of(ack), ack.error):
            _log.error("%s cannot apply version %d: %s", ack.node, rejected, ack.error)
        proxy.rejected, proxy.error, proxy.resource = rejected, ack.error, ack.resource
        subscription = self._subscriptions.get(ack.node)
        # What it rejects may have been replaced already, and the proxy may be about to say that it likes that better.
        if subscription is not None and rejected >= self._state.whole:
            # A wide delta after it may be the mend, but is for what the proxy does not have.
            (subscription.refused if rejected >= self._state.wide else subscription.resync)()
        _call(self.on_rejection, Rejection(ack.node, ack.hash, ack.error, ack.resource))

    def _wake(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()


def _call(callbacks: Sequence[Callable[[T], None]], value: T) -> None:
    for callback in callbacks:
        callback(value)
