"""What layer 7 asks of its worker, without sockets."""

from __future__ import annotations

import asyncio

from portway_proxy.access_log import AccessLog
from portway_proxy.clock import Clock
from portway_proxy.journal import Journal
from portway_proxy.l4.splicer import Splicer
from portway_proxy.l7.asker import OpenClient
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.exchange import Exchange
from portway_proxy.l7.http import Http
from portway_proxy.l7.request import RequestParser
from portway_proxy.live import Live
from portway_proxy.metrics import Counters
from portway_proxy.observing import AccessLogSettings
from portway_proxy.settings import ProxySettings
from portway_proxy.tasks import Tasks
from portway_proxy.traffic import Traffic

__all__ = ["Parts"]


class Parts:
    """The parts of a worker, on the running loop; the clock does not tick."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.settings = ProxySettings()
        self.clock = Clock(self.loop)
        self.splicer = Splicer(self.loop, self.clock)
        self.tasks = Tasks()
        self.live = Live.empty()
        access = AccessLog(self.clock, AccessLogSettings(enabled=False))
        self.journal = Journal(self, self.clock, access, Traffic(1000))
        self.counters = Counters()
        self.clients: set[OpenClient] = set()
        self.draining = False

    def exchange(self, head: bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", started: float = 0.0) -> Exchange:
        """Return the exchange that `head` begins, on a client connection that is not connected."""
        client = ClientConnection(Http(self), tls=False)
        client.peer = b"192.0.2.1"
        return Exchange(client, RequestParser(self.settings.limits).parse(head), started)
