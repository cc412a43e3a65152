"""What all exchanges of a worker share: the parsers, the limits, the source of request ids, the current Date."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Protocol

from portway_proxy.l7.request import RequestParser
from portway_proxy.l7.response import ResponseParser
from portway_proxy.passwords import Hashing

if TYPE_CHECKING:
    import asyncio

    from portway_proxy.clock import Clock
    from portway_proxy.journal import Journal
    from portway_proxy.l7.client import ClientConnection
    from portway_proxy.live import Live
    from portway_proxy.metrics import Counters
    from portway_proxy.settings import ProxySettings
    from portway_proxy.tasks import Tasks

__all__ = ["Http", "Worker"]


class Worker(Protocol):
    """What layer 7 needs of its worker. `live` is replaced whole, so it is read once for each exchange."""

    loop: asyncio.AbstractEventLoop
    settings: ProxySettings
    clock: Clock
    tasks: Tasks
    live: Live
    journal: Journal
    counters: Counters
    clients: set[ClientConnection]
    draining: bool


class Http:
    """The shared parts, made once by a worker."""

    __slots__ = (
        "_date",
        "_random",
        "_second",
        "clock",
        "counters",
        "hashing",
        "https_port",
        "journal",
        "limits",
        "loop",
        "requests",
        "responses",
        "settings",
        "tasks",
        "timeouts",
        "worker",
    )

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.loop = worker.loop
        self.clock = worker.clock
        self.tasks = worker.tasks
        self.journal = worker.journal
        self.counters = worker.counters
        self.settings = worker.settings
        self.limits = worker.settings.limits
        self.timeouts = worker.settings.timeouts
        self.requests = RequestParser(self.limits)
        self.responses = ResponseParser(self.limits)
        self.https_port = worker.settings.public_https_port or worker.settings.https_port or 443
        self.hashing = Hashing(worker.loop)
        self._random = random.Random()  # noqa: S311 - an id to find log lines by, no secret
        self._second = 0.0
        self._date = b""

    def request_id(self) -> bytes:
        """Return a new request id: 32 hexadecimal digits, as ingress-nginx makes them."""
        return b"%032x" % self._random.getrandbits(128)

    def date(self) -> bytes:
        """Return the value of a Date field, a second coarse."""
        wall = self.clock.wall
        if wall != self._second:
            self._second = wall
            self._date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(wall)).encode()
        return self._date
