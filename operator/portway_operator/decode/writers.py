"""Reads who wrote an object last: of all that its managedFields say, a name and a time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from portway_operator.decode.fields import Raw

__all__ = ["NOBODY", "Writer", "last_writer"]


class Writer(NamedTuple):
    """A field manager (`helm`, `kubectl-client-side-apply`) and when it wrote, as the API server put it."""

    manager: str
    time: str

    def at(self, otherwise: datetime) -> datetime:
        """Return the time in UTC, or `otherwise` where it is none."""
        try:
            found = datetime.fromisoformat(self.time)
        except ValueError:
            return otherwise
        return found.astimezone(UTC) if found.tzinfo else otherwise


NOBODY = Writer("", "")
"""Who wrote what does not say it."""


def last_writer(raw: Raw) -> Writer:
    """Return who wrote an object last, and not only its status; of two in one second, the one that is named last.

    It never raises: this is what people are told, and nothing that is served depends on it.
    """
    metadata = raw.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    found = [_entry(one) for one in entries if isinstance(one, Mapping)] if isinstance(entries, list | tuple) else []
    # All times of an API server have one form: the latest is the last in the alphabet too.
    by_spec = [writer for writer, part in found if not part]
    return max(reversed(by_spec or [writer for writer, _ in found]), key=lambda one: one.time, default=NOBODY)


def _entry(entry: Mapping[object, object]) -> tuple[Writer, object]:
    manager, time = entry.get("manager"), entry.get("time")
    # YAML readers make a date of a time; a file that was read back from a cluster may well have both.
    said = time.isoformat() if isinstance(time, datetime) else time if isinstance(time, str) else ""
    return Writer(manager if isinstance(manager, str) else "", said), entry.get("subresource")
