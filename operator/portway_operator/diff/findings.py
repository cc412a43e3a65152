"""What `portway diff` finds, as values: one difference for two snapshots, in a form that programs may rely on.

`Difference.version` changes when a field changes its meaning or goes away; fields that are added do not change it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from portway_proxy.snapshot import Origin

__all__ = ["VERSION", "Counted", "Difference", "Effect", "Finding"]

VERSION: Final = 1


class Effect(StrEnum):
    """What a finding comes to, the gravest first: findings are sorted by it."""

    PROTECTION_LOST = "protection-lost"
    TRAFFIC_LOST = "traffic-lost"
    HANDS = "changed-hands"
    SHADOWED = "shadowed"
    CHANGED = "changed"
    PROTECTION_GAINED = "protection-gained"
    ADDED = "added"
    MENDED = "mended"


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that the new snapshot does otherwise.

    `kind` is a stable slug (`password_lost`), `sentence` says it all. `host` is as in `snapshot.Host`, `path` one
    request path that shows it; both are empty where it is about neither. `was` and `now` say the same of the old and
    the new snapshot, `before` and `after` name the objects that they come from.
    """

    effect: Effect
    kind: str
    sentence: str
    host: str = ""
    path: str = ""
    was: str = ""
    now: str = ""
    before: Origin | None = None
    after: Origin | None = None


class Counted(msgspec.Struct, frozen=True):
    """What one side has; `name` is what the user called it."""

    name: str = ""
    hosts: int = 0
    routes: int = 0
    listeners: int = 0
    problems: int = 0


class Difference(msgspec.Struct, frozen=True):
    """All findings, sorted by effect, host and path; `notes` say what could not be compared, and why."""

    old: Counted
    new: Counted
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()
    version: int = VERSION

    @property
    def gravest(self) -> Effect | None:
        """The effect of the first finding; None where nothing differs."""
        return self.findings[0].effect if self.findings else None

    def of(self, effect: Effect) -> tuple[Finding, ...]:
        """Return the findings with that effect."""
        return tuple(one for one in self.findings if one.effect is effect)
