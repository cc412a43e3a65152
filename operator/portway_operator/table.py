"""What is served as a table, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from portway_operator.console import printable
from portway_proxy.describe import describe_upstream
from portway_proxy.describe_policies import describe_policy
from portway_proxy.snapshot import Route, Snapshot, Upstream

__all__ = ["table_of"]

_COLUMNS = ("host or port", "path", "match", "upstream", "endpoints", "policy", "from")


def table_of(snapshot: Snapshot) -> Table:
    """Return a row for each route and layer 4 listener, in the order of `describe`."""
    table = Table(*_COLUMNS, title="Portway's routes", title_justify="left")
    for row in _rows(snapshot):
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _rows(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}

    def target(route: Route) -> tuple[str, ...]:
        return *_upstream(upstreams[route.upstream]), describe_policy(route.policy).strip(" []"), str(route.origin)

    for host in snapshot.hosts:
        for route in host.routes:
            yield host.name or "*", route.path, str(route.match), *target(route)
    if snapshot.default is not None:
        yield "default", "", "", *target(snapshot.default)
    for listener in snapshot.listeners:
        where = f"{listener.transport}/{listener.port}"
        yield where, "", "", *_upstream(upstreams[listener.upstream]), "", str(listener.origin)


def _upstream(upstream: Upstream) -> tuple[str, str]:
    name, _, where = describe_upstream(upstream).partition(" -> ")
    return name, where
