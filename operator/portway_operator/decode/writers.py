"""Reads who wrote an object: of all that its managedFields say, names and times."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from portway_operator.decode.fields import Raw

__all__ = ["NOBODY", "LastWriters", "Writer", "read_writers"]

_REMEMBERED: Final = 1000  # Objects; more seldom change in a second.


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


def read_writers(raw: Raw) -> tuple[Writer, ...]:
    """Return who wrote an object, and not only its status, the last at the end.

    It never raises: this is what people are told, and nothing that is served depends on it.
    """
    metadata = raw.get("metadata")
    entries = metadata.get("managedFields") if isinstance(metadata, Mapping) else None
    found = [_entry(one) for one in entries if isinstance(one, Mapping)] if isinstance(entries, list | tuple) else []
    # All times of an API server have one form: the latest is the last in the alphabet too.
    writers = [writer for writer, part in found if not part] or [writer for writer, _ in found]
    return tuple(sorted(writers, key=lambda one: one.time))


class LastWriters:
    """Tells who of its writers wrote an object last.

    Times are whole seconds. Of two in one second it is who was not there the last time, or had not written then: the
    writers of the objects that changed last are remembered. Where that is not known, it is the one named last.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[tuple[Writer, ...], Writer]] = {}

    def last(self, key: Hashable, writers: tuple[Writer, ...]) -> Writer:
        """Return who wrote last the object that `key` stands for, now that these are its writers."""
        before, found = self._known.pop(key, ((), NOBODY))
        new = [one for one in writers if one not in before]
        # Who writes twice in a second leaves the same entry.
        found = new[-1] if new else found if found in writers else (writers or (NOBODY,))[-1]
        self._known[key] = writers, found
        if len(self._known) > _REMEMBERED:
            del self._known[next(iter(self._known))]
        return found


def _entry(entry: Mapping[object, object]) -> tuple[Writer, object]:
    manager, time = entry.get("manager"), entry.get("time")
    # YAML readers make a date of a time; a file that was read back from a cluster may well have both.
    said = time.isoformat() if isinstance(time, datetime) else time if isinstance(time, str) else ""
    return Writer(manager if isinstance(manager, str) else "", said), entry.get("subresource")
