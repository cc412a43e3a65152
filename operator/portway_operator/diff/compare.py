"""Compares two snapshots: the one function that the command, the history and tests call."""

from __future__ import annotations

from typing import Final

from portway_operator.diff.common import compare_common
from portway_operator.diff.doors import compare_doors
from portway_operator.diff.findings import Counted, Difference, Effect, Finding
from portway_operator.diff.hosts import compare_hosts
from portway_operator.diff.side import Side
from portway_operator.diff.veil import NOTE, redacted, veiled
from portway_proxy.snapshot import Snapshot

__all__ = ["compare"]

_RANK: Final = {effect: rank for rank, effect in enumerate(Effect)}


def compare(old: Snapshot, new: Snapshot, *, one_history: bool = False) -> Difference:
    """Return what `new` does otherwise than `old`; raises `BadSnapshot` for one that no proxy would serve.

    `one_history`: both come from the history of one process, so that fingerprints for secrets can be compared. Takes
    15 to 100 us for each route.
    """
    apart = not one_history and (redacted(old) or redacted(new))
    sides = (Side(veiled(old)), Side(veiled(new))) if apart else (Side(old), Side(new))
    found = [*compare_hosts(*sides), *compare_doors(*sides), *compare_common(*sides)]
    notes = [*_notes(*sides), *([NOTE] if apart else [])]
    return Difference(_counted(old), _counted(new), tuple(sorted(found, key=_order)), tuple(notes))


def _counted(snapshot: Snapshot) -> Counted:
    return Counted(
        hosts=len(snapshot.hosts),
        routes=sum(len(host.routes) for host in snapshot.hosts),
        listeners=len(snapshot.listeners),
        problems=len(snapshot.problems),
    )


def _order(finding: Finding) -> tuple[int, str, str, str, str]:
    return _RANK[finding.effect], finding.host, finding.path, finding.kind, finding.sentence


def _notes(old: Side, new: Side) -> list[str]:
    """Return what cannot be compared, and why."""
    blind = [name for name, side in (("old", old), ("new", new)) if side.blind]
    return [f"The {name} side knows no endpoints: whether upstreams have any is not compared." for name in blind]
