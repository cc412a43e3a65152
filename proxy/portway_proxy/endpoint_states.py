"""The table of endpoints: how each of them fares in the eyes of all workers, and what is under way at it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Final, Self

import msgspec

from portway_proxy.explain.explanation import EndpointState

__all__ = ["MOST", "EndpointPage", "EndpointQuery", "EndpointRow", "describe_endpoints"]

MOST = 10_000
"""Endpoints of one answer at most: more than anybody reads, and about two megabytes."""

# The worst first: an endpoint is as it is for the worker that thinks least of it.
_WORST: Final = (EndpointState.FAILING, EndpointState.EJECTED, EndpointState.DRAINING, EndpointState.READY)


class EndpointRow(msgspec.Struct, frozen=True):
    """An endpoint of an upstream, as `workers` workers see it, of which `ready` have it for ready.

    An ejected one is asked again in `retry` seconds; `failures` are requests that failed in a row. `share` is what it
    gets of the requests beside an ordinary endpoint: 1, less while it starts slowly, 0 when it gets none (it is not
    well, leaves, or others are nearer). `requests` are under way (at layer 4: connections that pass through),
    `connections` are open, of which `idle` wait for a request.
    """

    upstream: str
    address: str
    state: EndpointState
    share: float = 1.0
    retry: float = 0.0
    failures: int = 0
    requests: int = 0
    connections: int = 0
    idle: int = 0
    workers: int = 1
    ready: int = 1

    def plus(self, other: EndpointRow) -> EndpointRow:
        """Return what two workers know of one endpoint together."""
        return EndpointRow(
            self.upstream,
            self.address,
            min(self.state, other.state, key=_WORST.index),
            min(self.share, other.share),
            max(self.retry, other.retry),
            max(self.failures, other.failures),
            self.requests + other.requests,
            self.connections + other.connections,
            self.idle + other.idle,
            self.workers + other.workers,
            self.ready + other.ready,
        )


class EndpointQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which endpoints are asked for: those of the upstream `name`, in this `state` or any, `limit` of them.

    `name` is `namespace/service` with or without a port, or a whole name (`namespace/service:port#ingress`); several
    are separated by commas, and all are meant when it is empty.
    """

    name: str = ""
    state: EndpointState | None = None
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST)] = 1000

    def names(self, upstream: str) -> bool:
        """Return whether the endpoints of this upstream are asked for."""
        whole = upstream.partition("#")[0]
        known = (upstream, whole, whole.partition(":")[0])
        return not self.name or any(name in known for name in self.name.split(","))


class EndpointPage(msgspec.Struct, frozen=True):
    """Endpoints in the order of their upstreams' names, and how many more there are."""

    endpoints: tuple[EndpointRow, ...] = ()
    more: int = 0

    @classmethod
    def of(cls, rows: Iterable[EndpointRow], query: EndpointQuery) -> Self:
        """Return those of `rows`, which are of upstreams that `query` names, that it asks for."""
        found = (row for row in rows if query.state in (None, row.state))
        return cls(tuple(islice(found, query.limit)), sum(1 for _ in found))

    @classmethod
    def join(cls, pages: Iterable[Self], limit: int) -> Self:
        """Return what several workers answered as one page."""
        found: dict[tuple[str, str], EndpointRow] = {}
        more = 0
        for page in pages:
            more = max(more, page.more)
            for row in page.endpoints:
                key = (row.upstream, row.address)
                found[key] = found[key].plus(row) if key in found else row
        rows = sorted(found.values(), key=lambda row: row.upstream)
        return cls(tuple(rows[:limit]), more + max(0, len(rows) - limit))


def describe_endpoints(page: EndpointPage) -> str:
    """Return one line for each endpoint, ended by a newline, and one that counts the rest."""
    return "".join(map(_line, page.endpoints)) + (f"and {page.more} more\n" if page.more else "")


def _line(row: EndpointRow) -> str:
    split = "" if row.ready in (0, row.workers) else f" (ready for {row.ready} of {row.workers} workers)"
    again = f" for {row.retry:.0f}s" if row.state is EndpointState.EJECTED else ""
    share = "" if row.share == 1 else f" share={row.share:.0%}"
    failures = f" failures={row.failures}" if row.failures else ""
    counts = f"requests={row.requests} connections={row.connections} idle={row.idle}"
    return f"{row.upstream} {row.address} {row.state}{again}{split}{share}{failures} {counts}\n"
