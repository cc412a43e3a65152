"""One of the two snapshots that are compared, with its parts by name."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Canary, ErrorPages, ExternalAuth, Mirror, Policy, Snapshot, Upstream

__all__ = ["Side", "bare", "plain"]

_Part = TypeVar("_Part", Canary, ErrorPages, ExternalAuth, Mirror)


class Side:
    """A snapshot, its route table, and what routes refer to by name."""

    __slots__ = ("authorities", "credentials", "keyrings", "snapshot", "table", "upstreams")

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.table = RouteTable.build(snapshot)
        self.upstreams = {one.name: one for one in snapshot.upstreams}
        self.credentials = {one.name: one for one in snapshot.credentials}
        self.authorities = {one.name: one for one in snapshot.authorities}
        self.keyrings = {one.name: one for one in snapshot.keyrings}

    @property
    def blind(self) -> bool:
        """Whether it has upstreams and knows no endpoint of any: files seldom do."""
        return bool(self.upstreams) and not any(one.endpoints or one.external_name for one in self.upstreams.values())

    def upstream(self, name: str) -> Upstream:
        """Return the upstream of that name, or one without endpoints."""
        return self.upstreams.get(name) or Upstream(name)


def bare(name: str) -> str:
    """Return the name of an upstream without the Ingress that wants endpoints on terms of its own."""
    return name.partition("#")[0]


def plain(policy: Policy | None) -> Policy:
    """Return a policy without what depends on the name of its Ingress alone."""
    if policy is None:
        return Policy()
    limit = policy.limit
    return msgspec.structs.replace(
        policy,
        limit=None if limit is None else msgspec.structs.replace(limit, zone=""),
        canary=_bared(policy.canary),
        errors=_bared(policy.errors),
        mirror=_bared(policy.mirror),
        external=_bared(policy.external),
    )


def _bared(part: _Part | None) -> _Part | None:
    if part is None or "#" not in part.upstream:
        return part
    return msgspec.structs.replace(part, upstream=bare(part.upstream))
