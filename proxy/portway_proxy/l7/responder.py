"""How a client of HTTP/1 gets its responses."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

from portway_proxy.l7.exchange import RESPONDING
from portway_proxy.l7.framing import LAST_CHUNK, chunk, last_chunk
from portway_proxy.l7.guest import Guest
from portway_proxy.l7.replies import reply
from portway_proxy.l7.rewrite import response_head, switching_head
from portway_proxy.l7.trailers import ACCEPTED

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.http import Http
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.proxy_protocol import ProxyHeader

__all__ = ["Responder"]

_CHUNKED_FIELD: Final = b"Transfer-Encoding: chunked\r\n"
# Whether the client's connection stays, its minor version -> the field that says so.
_PERSISTENCE: Final = {
    (False, 0): b"Connection: close\r\n",
    (False, 1): b"Connection: close\r\n",
    (True, 0): b"Connection: keep-alive\r\n",
    (True, 1): b"",
}


class Responder(Guest, metaclass=ABCMeta):
    """The protocol of a client connection, as far as it is about responses.

    `versions` are the names of what is spoken, by the minor version of a head. `response_keeps` says whether the
    connection may stay after the response that was begun last.
    """

    __slots__ = ("_chunks_out", "response_keeps")

    versions: ClassVar = (b"HTTP/1.0", b"HTTP/1.1")

    def __init__(self, http: Http, *, tls: bool, told: ProxyHeader | None) -> None:
        super().__init__(http, tls=tls, told=told)
        self.response_keeps = True
        self._chunks_out = False

    @abstractmethod
    def keeps(self, head: RequestHead) -> bool:
        """Return whether the connection may stay after the response to `head`."""

    def takes_trailers(self, head: RequestHead) -> bool:
        """Return whether the client of a request wants fields behind the body of the response."""
        return ACCEPTED in head.lines

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        self.http.counters.sent += len(data)
        self._transport.write(data)

    def forward(self, response: ResponseHead, body: bytes) -> None:
        """Send a whole response whose head is `plain`."""
        self.response_keeps = True
        self.write(response.plain + body)

    def interim(self, head: RequestHead, response: ResponseHead) -> None:
        """Send an interim response (1xx), if the client knows such."""
        if head.minor == 1:
            fields = b"".join(response.lines)
            self.write(b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.phrase, fields))

    def head_of(self, exchange: Exchange, response: ResponseHead, own: bytes) -> bytes:
        """Return the head of a response as the client gets it, with `own` lines, and be ready for its body."""
        request = exchange.head
        framing = self._frame(request, response)
        self.response_keeps = keeps = framing is not None and exchange.state is RESPONDING and self.keeps(request)
        persistence = _PERSISTENCE[keeps, request.minor]
        return response_head(response, framing or b"", self.http.date(), persistence + own)

    def _frame(self, request: RequestHead, response: ResponseHead) -> bytes | None:
        """Return the field that frames the body; None: the end of the connection ends it."""
        self._chunks_out = False
        length = response.length
        if response.status == 204:
            return b""
        if length is not None:
            return b"Content-Length: %d\r\n" % length
        if request.method == b"HEAD" or response.status == 304:
            return b""
        self._chunks_out = request.minor == 1
        return _CHUNKED_FIELD if self._chunks_out else None

    def deliver(self, head: bytes, pieces: list[bytes]) -> None:
        """Send a part of the response: its `head`, unless that has left already, and pieces of the body, if any."""
        if pieces and self._chunks_out:
            pieces = [chunk(pieces)]
        self.write(b"".join((head, *pieces)) if head or len(pieces) > 1 else pieces[0])

    def deliver_end(self, head: bytes, pieces: list[bytes], trailers: bytes) -> None:
        """Send the last part of the response, and `trailers`, which are lines that each end in CRLF."""
        out = [head] if head else []
        if pieces:
            out += [chunk(pieces)] if self._chunks_out else pieces
        if self._chunks_out:
            out.append(last_chunk(trailers) if trailers else LAST_CHUNK)
        if out:
            self.write(b"".join(out) if len(out) > 1 else out[0])

    def reply(self, head: RequestHead, status: int, fields: bytes, *, keeps: bool) -> tuple[int, int]:
        """Send a response of the proxy's own to `head`; return the sizes of its head and its body.

        `fields` are lines that each end in CRLF, `keeps` says whether the connection stays.
        """
        whole = reply(
            status, self.http.signature + fields + _PERSISTENCE[keeps, head.minor], bodiless=head.method == b"HEAD"
        )
        self.write(whole)
        size = whole.index(b"\r\n\r\n") + 4
        return size, len(whole) - size

    def switch(self, response: ResponseHead, lines: list[bytes], own: bytes) -> bytes:
        """Return what the client gets first of a tunnel: a 101 with `lines` of the response's, and `own` ones."""
        return switching_head(response, lines, own)
