"""The annotations of an Ingress that say how bytes pass: what waits in memory, how fast, and in which words."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.fidelity import close
from portway_operator.annotations.rows import row
from portway_operator.parse import count, http_version, size, switch, token

__all__ = ["BytesAnnotations"]

_MOST = 1 << 30


@dataclass(frozen=True)
class BytesAnnotations:
    """What the annotations of an Ingress say about how bytes pass."""

    proxy_request_buffering: bool = row(
        "proxy-request-buffering",
        switch,
        default=False,
        makes="buffering",
        doc="`on`: an endpoint gets a request once its body is there, or `client-body-buffer-size` of it. `off`: it "
        "gets the body as that comes.",
        nginx="proxy-request-buffering",
        fidelity=close(
            "Unset it is off. What is longer than `client-body-buffer-size` goes on as it comes, and never to a file. "
            "Bodies of HTTP/2 go on as they come.",
            lambda value: value.lower() != "off",
        ),
    )
    client_body_buffer_size: int = row(
        "client-body-buffer-size",
        size,
        default=1 << 20,
        makes="buffering",
        doc="How much of a request's body waits in memory then, at most 16 MiB.",
        nginx="client-body-buffer-size",
        requires=("proxy_request_buffering",),
        fidelity=close("It counts where `proxy-request-buffering` is asked for, and is 1 MiB where it is not set."),
    )
    proxy_buffering: bool = row(
        "proxy-buffering",
        switch,
        default=False,
        makes="buffering",
        doc="`on`: for a client that does not keep up so much of a response waits in memory as `proxy-buffers-number` "
        "buffers of `proxy-buffer-size` have, at most 16 MiB; the proxy's `buffer-size` at least, which waits anyway.",
        nginx="proxy-buffering",
        fidelity=close("Nothing waits in files.", lambda value: value.lower() != "off"),
    )
    proxy_buffers_number: int = row(
        "proxy-buffers-number",
        count(1, 4096),
        default=4,
        makes="buffering",
        doc="How many buffers there are then.",
        nginx="proxy-buffers-number",
        requires=("proxy_buffering",),
    )
    proxy_buffer_size: int = row(
        "proxy-buffer-size",
        size,
        default=4096,
        makes="buffering",
        doc="The size of such a buffer, and the longest head that a response may have, where that is longer than the "
        "proxy's `head-size`; others are a 502.",
        nginx="proxy-buffer-size",
        fidelity=close("A response's head may always have `head-size`, of 64 KiB."),
    )
    limit_rate: int = row(
        "limit-rate",
        count(0, _MOST >> 10),
        default=0,
        makes="rate",
        doc="How many kilobytes a second of a response reach the client; 0 is no limit.",
        nginx="limit-rate",
    )
    limit_rate_after: int = row(
        "limit-rate-after",
        count(0, _MOST >> 10),
        default=0,
        makes="rate",
        doc="After how many kilobytes of it that begins.",
        nginx="limit-rate-after",
        requires=("limit_rate",),
    )
    proxy_http_version: str = row(
        "proxy-http-version",
        http_version,
        default="1.1",
        makes="old_http",
        doc="The version of HTTP that endpoints are asked by: `1.1`, or `1.0`, by which no protocol is switched.",
        nginx="proxy-http-version",
        fidelity=close("With `1.0`, a body without Content-Length gets 411.", lambda value: value == "1.0"),
    )
    connection_proxy_header: str = row(
        "connection-proxy-header",
        token,
        default="",
        makes="connection",
        doc="The Connection field that endpoints get (`keep-alive`, `close`).",
        nginx="connection-proxy-header",
        fidelity=close("A request that switches protocols keeps its own."),
    )
