"""Answers that send the client elsewhere, in the forms of ingress-nginx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.l7 import flow
from portway_proxy.l7.replies import redirect

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage

__all__ = ["to_https"]


def to_https(exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG001 - a step's signature
    """Send a request that came without TLS to https; it is a step (`passage.Step`)."""
    head = exchange.head
    if head.raw_host is None:
        return True  # HTTP/1.0 without Host: there is no name to redirect to.
    exchange.reason = "https_redirect"
    target = head.target if head.path != b"*" else b"/"
    flow.answer(exchange, 308, redirect(head.outer_host, target, exchange.client.http.https_port), keeps=True)
    return False
