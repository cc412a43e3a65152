"""What the benchmark asks of a proxy."""

from __future__ import annotations

from abc import ABC, abstractmethod

from bench.accounting import tree
from bench.scene import Place, Scene

__all__ = ["Peer"]


class Peer(ABC):
    """One proxy: how it is configured and started, and which of its processes count."""

    @property
    @abstractmethod
    def label(self) -> str:
        """Its name in the tables."""

    @property
    @abstractmethod
    def note(self) -> str:
        """What a reader must know of its configuration to judge it."""

    @abstractmethod
    def missing(self) -> str:
        """Return how to install it, empty when it is here."""

    @abstractmethod
    def version(self) -> str:
        """Return its version; only asked when it is here."""

    @abstractmethod
    def command(self, scene: Scene, place: Place) -> list[str]:
        """Write the configuration of `scene` into `place` and return the command that serves it in the foreground."""

    def measured(self, root: int) -> list[int]:
        """Return the processes whose cost counts; `root` is the one that `command` became."""
        return tree(root)
