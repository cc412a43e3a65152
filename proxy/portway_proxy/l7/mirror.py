"""Copies of requests, for a service whose answers nobody reads: nginx's mirror."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote_from_bytes

from portway_proxy.errors import ClientGone
from portway_proxy.l7 import flow
from portway_proxy.l7.errand import Errand
from portway_proxy.l7.request import RequestHead
from portway_proxy.l7.template import Template

if TYPE_CHECKING:
    from collections.abc import Callable

    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.snapshot import Mirror

__all__ = ["Copy", "SendCopy"]

_MOST: Final = 1_000  # Copies that a worker has under way for a route: a service that hangs must not cost all memory.
_UNFIT = re.compile(rb"[^!-~]")


class Copy(Errand):
    """The client of one copy, whose body comes as the request's own does; a service that does not keep up loses it."""

    __slots__ = ("_bodiless", "_held", "_waiting", "_whole")

    def __init__(self, asker: Asker, then: Callable[[ResponseHead | None], None], *, bodiless: bool) -> None:
        super().__init__(asker, then)
        self._bodiless = bodiless
        self._held: list[bytes] = []
        self._waiting = 0
        self._whole = bodiless

    @property
    def request_read(self) -> bool:
        """Whether there is no body to send."""
        return self._bodiless

    def write(self, data: bytes) -> None:
        """Drop a part of the response."""

    def take(self, pieces: list[bytes]) -> None:
        """Send a part of the body on, or hold it until there is a connection."""
        exchange = self.exchange
        if exchange is None or self._bodiless:
            return
        connection = exchange.connection
        if connection is not None:
            connection.send(pieces)
            self._waiting = connection.unsent
        else:
            self._held += pieces
            self._waiting += sum(map(len, pieces))
        if self._waiting > self.http.limits.buffer:
            self.give_up()

    def end(self) -> None:
        """End the body."""
        self._whole = True
        exchange = self.exchange
        if exchange is not None and exchange.connection is not None and not self._bodiless:
            exchange.connection.request_ended(exchange)

    def send_body(self) -> None:
        """Send what was held of the body."""
        exchange = self.exchange
        if exchange is None or exchange.connection is None:
            return
        if self._held:
            exchange.connection.send(self._held)
            self._held = []
        if self._whole:
            exchange.connection.request_ended(exchange)

    def leave(self) -> None:
        """Note that the request itself is over: without its whole body there is no copy."""
        if not self._whole:
            self.give_up()

    def give_up(self) -> None:
        """Give the copy up."""
        self._held = []
        if self.exchange is not None:
            flow.fail(self.exchange, ClientGone("the copy cannot be completed"))


class SendCopy:
    """The step that sends a copy of each request to a service."""

    __slots__ = ("_body", "_host", "_mirror", "_target", "_under_way")

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._target = Template(mirror.target)
        self._host = Template(mirror.host)
        self._under_way = 0

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return True."""
        upstream = exchange.client.http.worker.live.upstreams.get(self._mirror.upstream)
        if upstream is None or self._under_way >= _MOST:
            return True
        head = self._request(exchange)
        self._under_way += 1
        copy = Copy(exchange.client, self._over, bodiless=head.bodiless)
        if not head.bodiless:
            passage.copy = copy
        copy.run(head, upstream)
        return True

    def _over(self, _: ResponseHead | None) -> None:
        self._under_way -= 1

    def _request(self, exchange: Exchange) -> RequestHead:
        asked = exchange.head
        head = RequestHead(asked.method, _UNFIT.sub(_quoted, self._target.fill(exchange)), 1)
        head.host = head.raw_host = _UNFIT.sub(b"", self._host.fill(exchange))
        head.forwarded_host = asked.forwarded_host or asked.raw_host or b""
        head.request_id = asked.request_id
        head.lines = asked.lines
        if self._mirror.body:
            head.length, head.chunked = asked.length, asked.chunked
        return head


def _quoted(found: re.Match[bytes]) -> bytes:
    return quote_from_bytes(found[0], safe="").encode()
