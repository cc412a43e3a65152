"""The table of layer 4 flows: who passes through now, from where to where, and how much."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Annotated, Self

import msgspec

__all__ = ["MOST", "Flow", "FlowPage", "FlowQuery", "describe_page"]

MOST = 1000
"""Flows of one answer at most: more than anybody reads, and less than a megabyte."""


class Flow(msgspec.Struct, frozen=True):
    """A connection, or a UDP client, that passes through.

    `listener` is `tcp/5432` or `udp/53`, `client` and `endpoint` are addresses with ports; the endpoint is empty while
    none is chosen. `upstream` is `namespace/service:port/tcp`. `seconds` is its age. `bytes_in` came from the client.
    """

    listener: str
    client: str
    upstream: str
    endpoint: str
    seconds: float
    bytes_in: int
    bytes_out: int


class FlowQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which flows are asked for: those that match all that is not empty, the oldest `limit` of them.

    `client` and `endpoint` are an address, or one with its port. `listener` is its name or its port, `service`
    `namespace/name` with or without a port.
    """

    client: str = ""
    listener: str = ""
    service: str = ""
    endpoint: str = ""
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 100

    def matches(self, flow: Flow) -> bool:
        """Return whether a flow is asked for."""
        return (
            _is_place(self.client, flow.client)
            and _is_place(self.endpoint, flow.endpoint)
            and self.listener in ("", flow.listener, flow.listener.partition("/")[2])
            and _is_service(self.service, flow.upstream)
        )


class FlowPage(msgspec.Struct, frozen=True):
    """The oldest flows that match a query, and how many more there are."""

    flows: tuple[Flow, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, flows: Iterable[Flow], query: FlowQuery) -> Self:
        """Return those of `flows` that `query` asks for."""
        found = [flow for flow in flows if query.matches(flow)]
        oldest = heapq.nlargest(query.limit, found, key=lambda flow: flow.seconds)
        return cls(tuple(oldest), len(found) - len(oldest))

    @classmethod
    def join(cls, pages: Iterable[Self], limit: int) -> Self:
        """Return what several workers answered as one page."""
        found = list(pages)
        flows = sorted((flow for page in found for flow in page.flows), key=lambda flow: -flow.seconds)
        oldest = tuple(flows[:limit])
        return cls(oldest, sum(page.more for page in found) + len(flows) - len(oldest))


def describe_page(page: FlowPage) -> str:
    """Return one line for each flow, ended by a newline, and one that counts the rest."""
    lines = [
        f"{flow.listener} {flow.client} -> {flow.upstream} {flow.endpoint or '-'} "
        f"{flow.seconds:.0f}s in={flow.bytes_in} out={flow.bytes_out}\n"
        for flow in page.flows
    ]
    return "".join(lines) + (f"and {page.more} more\n" if page.more else "")


def _is_place(wanted: str, place: str) -> bool:
    return wanted in ("", place, place.rpartition(":")[0].strip("[]"))


def _is_service(wanted: str, upstream: str) -> bool:
    name, _, port = upstream.rpartition(":")
    return wanted in ("", upstream, name, f"{name}:{port.partition('/')[0]}")
