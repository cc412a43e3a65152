"""What of a cluster is read, and how patiently."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.sources.resources import Target

__all__ = ["Pace", "Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the cluster is read.

    `namespaces`: of Ingresses, Services and EndpointSlices; none means all. `secret_namespaces`: of TLS Secrets; None
    means the same namespaces, an empty tuple only the named ones. `named`: single ConfigMaps and Secrets.
    """

    namespaces: tuple[str, ...] = ()
    secret_namespaces: tuple[str, ...] | None = None
    named: frozenset[Target] = frozenset()


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient the source is, in seconds.

    `silent`: bookmarks come every minute, so a watch that is silent for longer is dead. `resync`: between two looks at
    the versions of everything, the safety net below the watches. `grace`: for an event that is still on its way.
    """

    silent: float = 70.0
    # With a fifth of jitter, the grace and a list, what was lost is mended within a minute.
    resync: float = 40.0
    grace: float = 2.0
