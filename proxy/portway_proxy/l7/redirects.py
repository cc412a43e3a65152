"""Answers that send the client elsewhere, in the forms of ingress-nginx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.l7 import flow
from portway_proxy.l7.replies import redirect
from portway_proxy.l7.target import parse_host

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.l7.request import RequestHead

__all__ = ["to_https"]


def _host(head: RequestHead) -> bytes:
    return parse_host(head.forwarded_host) if head.forwarded_host else head.host


def to_https(exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG001 - a step's signature
    """Send a request that came without TLS to https; it is a step (`passage.Step`)."""
    head = exchange.head
    if head.raw_host is None:
        return True  # HTTP/1.0 without Host: there is no name to redirect to.
    exchange.reason = "https_redirect"
    target = head.target if head.path != b"*" else b"/"
    flow.answer(exchange, 308, redirect(_host(head), target, exchange.client.http.https_port), keeps=True)
    return False
