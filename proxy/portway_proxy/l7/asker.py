"""Who asks for something: a connection of HTTP/1, a stream of HTTP/2, or the proxy itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

    from portway_proxy.errors import ProxyError
    from portway_proxy.l7.buffering import Gathering
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.framing import Framing
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.l7.rewrite import Repeats
    from portway_proxy.shown import Shown
    from portway_proxy.snapshot import ProxyVersion

__all__ = ["Asker", "OpenClient"]


class OpenClient(Protocol):
    """An open connection of a client, whatever is spoken on it."""

    @property
    def exchanges(self) -> Sequence[Exchange]:
        """What is under way for the client."""

    @property
    def unsent(self) -> int:
        """How many bytes wait for this client, and for the endpoints of its requests."""

    def doubt(self) -> None:
        """Identify the client anew with its next request."""

    def squeeze(self) -> None:
        """Let no more wait for the client, and for its endpoints, than the limits allow now."""

    def cut(self, error: ProxyError) -> None:
        """End with `error` what is under way, or the connection if nothing is."""

    def drain(self) -> None:
        """End the connection once nothing is under way, and have the client ask for nothing more."""

    def abort(self) -> None:
        """End the connection so that the client sees that its response is cut off."""


class Asker(Protocol):
    """What an exchange needs of who asked: its side of request and response, and who it is.

    `repeats` writes heads for its requests, `forwarded` are the fields that tell endpoints of it. `body_limit` is in
    bytes, 0 for none. While `write_paused` it takes no more of the response.
    """

    http: Http
    peer: bytes
    secure: bool
    forwarded: bytes
    repeats: Repeats
    exchange: Exchange | None
    body_limit: int
    response_keeps: bool
    write_paused: bool

    # --- who it is

    @property
    def tls(self) -> bool:
        """Whether it came to a port for TLS."""

    @property
    def strict(self) -> bool:
        """Whether it was shown a certificate for the very name that it asked for."""

    @property
    def authority(self) -> str:
        """The authority by which it was asked for a certificate of its own; empty for none."""

    @property
    def shown(self) -> Shown:
        """The certificate that it showed."""

    @property
    def versions(self) -> tuple[bytes, bytes]:
        """The names of what is spoken, by the minor version of a head."""

    @property
    def note(self) -> Callable[[Exchange], None]:
        """What takes its exchanges when they are over."""

    @property
    def gone(self) -> bool:
        """Whether it is gone, though nobody was told yet."""

    def announcement(self, version: ProxyVersion) -> bytes:
        """Return the PROXY header that tells an endpoint who the client is."""

    # --- its request

    @property
    def request_read(self) -> bool:
        """Whether the whole body of the request was taken from it."""

    @property
    def trailers(self) -> Sequence[bytes]:
        """The fields behind the body of the request, as `Name: value`; none before its end."""

    def send_body(self) -> None:
        """Send what came of the body to the endpoint, then the rest as it comes."""

    def drop_body(self) -> None:
        """Send what is left of the body nowhere."""

    def framing_of(self, head: RequestHead) -> Framing:
        """Return what tells where the body of a request ends, in what is held and what comes."""

    def gather(self, gathering: Gathering) -> bool:
        """Hold the body of the request for a while; return whether enough of it is there already."""

    def pause(self) -> None:
        """Take no more of the body for now: the endpoint does not keep up."""

    def resume(self) -> None:
        """Take the body again."""

    # --- its response

    def keeps(self, head: RequestHead) -> bool:
        """Return whether its connection may stay after the response to `head`."""

    def takes_trailers(self, head: RequestHead) -> bool:
        """Return whether it wants fields behind the body of the response."""

    def forward(self, response: ResponseHead, body: bytes) -> None:
        """Send a whole response whose head is `plain`."""

    def interim(self, head: RequestHead, response: ResponseHead) -> None:
        """Send an interim response (1xx)."""

    def head_of(self, exchange: Exchange, response: ResponseHead, own: bytes) -> bytes:
        """Return the head of a response in the client's form, with `own` lines, and be ready for its body."""

    def deliver(self, head: bytes, pieces: list[bytes]) -> None:
        """Send a part of the response: what `head_of` made, once, and pieces of the body, if any."""

    def deliver_end(self, head: bytes, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last part of the response, and `trailers`, which are lines that each end in CRLF."""

    def reply(self, head: RequestHead, status: int, fields: bytes, *, keeps: bool) -> tuple[int, int]:
        """Send a response of the proxy's own to `head`; return the sizes of its head and its body."""

    def widen(self, size: int) -> None:
        """Let so many bytes wait for the client, until `squeeze`."""

    def squeeze(self) -> None:
        """Let no more wait for the client, and for its endpoint, than the limits allow."""

    def finished(self, *, keeps: bool) -> None:
        """Go on to what comes next: the exchange is over."""

    def abort(self) -> None:
        """Let the client see that its response is cut off."""

    # --- a tunnel

    def switch(self, response: ResponseHead, lines: list[bytes], own: bytes) -> bytes:
        """Return the bytes that the client gets first of a tunnel, for a 101 with these lines."""

    def take_early(self) -> bytes:
        """Return what the client sent before its tunnel began."""

    def hand_over(self) -> asyncio.Transport:
        """Give what carries its bytes to a tunnel, and watch no deadline any more."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the tunnel has ended, and with it what carried it."""
