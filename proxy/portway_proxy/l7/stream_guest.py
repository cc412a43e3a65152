"""A stream of a client, as far as it is about whose it is and how long it may last."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from portway_proxy.clock import NEVER
from portway_proxy.http2.stream import Stream

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http2 import Http2Client
    from portway_proxy.shown import Shown
    from portway_proxy.snapshot import ProxyVersion

__all__ = ["StreamGuest"]


class StreamGuest(Stream):
    """A stream on the connection of `home`, whose client it has, or for whom that speaks.

    `deadline` is watched by the clock only while there is one.
    """

    __slots__ = ("deadline", "forwarded", "home", "http", "peer", "repeats", "secure")

    def __init__(self, home: Http2Client, number: int) -> None:
        super().__init__(home.connection, number)
        self.home = home
        self.http = home.http
        self.deadline = NEVER
        self.repeats = home.repeats
        self.identify()

    def identify(self) -> None:
        """Take the stream for whose the connection's last head was."""
        home = self.home
        self.peer = home.peer
        self.secure = home.secure
        self.forwarded = home.forwarded

    def _watch(self, deadline: float) -> None:
        if self.deadline != NEVER:
            if deadline == NEVER:
                self.http.clock.unwatch(self)
        elif deadline != NEVER:
            self.http.clock.watch(self)
        self.deadline = deadline

    @property
    def tls(self) -> bool:
        """Whether it came to a port for TLS."""
        return self.home.tls

    @property
    def strict(self) -> bool:
        """Whether it was shown a certificate for the very name that it asked for."""
        return self.home.strict

    @property
    def authority(self) -> str:
        """The authority by which it was asked for a certificate of its own; empty for none."""
        return self.home.authority

    @property
    def shown(self) -> Shown:
        """The certificate that it showed."""
        return self.home.shown

    @property
    def note(self) -> Callable[[Exchange], None]:
        """What takes its exchange when it is over."""
        return self.home.note

    @property
    def gone(self) -> bool:
        """Whether it is gone, though nobody was told yet."""
        return self.sent or self.home.gone

    def announcement(self, version: ProxyVersion) -> bytes:
        """Return the PROXY header that tells an endpoint who the client is."""
        return self.home.announcement(version)

    @abstractmethod
    def expire(self) -> None:
        """Act on a client that is too slow."""
