"""What stands around a rehearsal in the place of what is real: a transport, a clock, a journal."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway_proxy.explain.scenario import Rehearsal
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.passwords import Verifier

__all__ = ["AtOnce", "Good", "Journal", "Side", "Still", "Transport"]


class Transport(asyncio.Transport):
    """Keeps what is written to it, in `written`."""

    def __init__(self, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(extra)
        self.written = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep bytes."""
        self.written += data

    def is_closing(self) -> bool:
        """Return False: there is nothing to close."""
        return False

    def get_write_buffer_size(self) -> int:
        """Return 0: nothing waits."""
        return 0

    def _ignore(self, *_: object, **__: object) -> None:
        """Do nothing: it leads nowhere."""

    close = abort = write_eof = pause_reading = resume_reading = set_write_buffer_limits = set_protocol = _ignore


class Side:
    """The client's side of TLS: HTTP/1.1, and no certificate."""

    context = None

    def selected_alpn_protocol(self) -> str:
        """Return what was agreed on."""
        return "http/1.1"

    def getpeercert(self, *, binary_form: bool = False) -> None:
        """Return None, in either form: none was shown."""


class Good:
    """The certificate that a host asks its clients for, as `Shown` tells it."""

    there = True
    code = 0
    words = ""
    subject = b""

    def fields(self, *, whole: bool) -> bytes:
        """Return the fields that tell an endpoint about it, without what they say."""
        names = ["verify: SUCCESS", "subject-dn: ...", "issuer-dn: ...", *(["cert: ..."] if whole else [])]
        return "".join(f"ssl-client-{name}\r\n" for name in names).encode()


class Still:
    """A clock and a loop whose time does not pass."""

    now = 0.0

    def __init__(self, wall: float) -> None:
        self.wall = wall

    def time(self) -> float:
        """Return the loop's time, which stands still."""
        return self.now

    def watch(self, item: object) -> None:
        """Do nothing: no deadline passes."""

    def unwatch(self, item: object) -> None:
        """Do nothing."""


class Journal:
    """Keeps the exchange that ended."""

    tracer = None

    def __init__(self, found: Rehearsal) -> None:
        self._found = found

    def note(self, exchange: Exchange) -> None:
        """Keep an exchange."""
        self._found.exchange = exchange


class AtOnce:
    """Verifies passwords where it is asked to."""

    def ask(self, verifier: Verifier, value: bytes, _digest: bytes, then: Callable[[bool], None]) -> bool:
        """Call `then` with the verdict; return True."""
        then(verifier.verify(value))
        return True
