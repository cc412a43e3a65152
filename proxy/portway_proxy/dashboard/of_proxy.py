"""A proxy as its dashboard sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from portway_proxy.dashboard.feed import Proxies, Role
from portway_proxy.dashboard.figures import Depth, Gathered
from portway_proxy.dashboard.looks import Looks
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Problem, Snapshot

__all__ = ["OfProxy", "Shown"]

_WHO: Final = "dashboard"


class Shown(Protocol):
    """The supervisor of the proxy."""

    settings: ProxySettings
    snapshot: Snapshot | None
    generation: int
    digest: str
    served_since: float

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong on this machine."""


class OfProxy:
    """What the dashboard of `proxy`, whose figures `looks` find, shows; `role` is what it says that the proxy is."""

    def __init__(self, proxy: Shown, looks: Looks, role: Role) -> None:
        self.role = role
        self._looks = looks
        self._proxy = proxy

    @property
    def node(self) -> str:
        """The name of its node, or nothing."""
        return self._proxy.settings.node

    @property
    def snapshot(self) -> Snapshot | None:
        """The snapshot that is served, or None before the first."""
        return self._proxy.snapshot

    @property
    def generation(self) -> int:
        """The number of the snapshot."""
        return self._proxy.generation

    @property
    def digest(self) -> str:
        """The digest of the snapshot."""
        return self._proxy.digest

    @property
    def served_since(self) -> float:
        """When the snapshot came into service, in seconds since the epoch."""
        return self._proxy.served_since

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong on this machine, beyond the snapshot's own problems."""
        return self._proxy.problems

    def fleet(self) -> Proxies | None:
        """Return None: it is no fleet."""
        return None

    async def figures(self, depth: Depth) -> Gathered:
        """Return what was counted since this was called before; nothing the first time, and the `LAST`."""
        return await self._looks.since(_WHO, depth)
