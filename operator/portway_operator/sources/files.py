"""The objects in YAML and JSON files, for `portway run`: read once, then followed as the files change.

What is on disk is looked at as a whole: a change of a file is only the reason to look again. So it does not matter
how an editor, a deployment tool or Kubernetes puts a new version in place.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from watchfiles import awatch

from portway_operator.objects import Kind
from portway_operator.sources.documents import FILE_SIZE
from portway_operator.sources.folders import Listing, Unreadable, list_files
from portway_operator.sources.manifest import Adapt, Key, Manifest, Placed, as_it_is, read_manifest, twice, unread
from portway_operator.store import ObjectStore
from portway_proxy.history import Action, Cause
from portway_proxy.snapshot import Origin, Problem

__all__ = ["FileSource", "Unreadable"]

_log = logging.getLogger(__name__)

PATIENCE = 0.3
"""Seconds that a file may be gone, empty or broken before we believe it: editors and `>` make it so for a moment."""

RETRY = 0.05
"""Seconds between two looks while there are doubts."""

SETTLED = 0.1
"""Seconds after which a file's time stamp tells versions apart; file systems count in steps of up to 10 ms."""

POLL_MS = 5000
"""Milliseconds between two looks when no change is heard of: network file systems do not tell."""

WATCH_RETRY = 1.0
"""Seconds until the next look where folders cannot be watched."""

_FILES = "files"
_BY = "file"

Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Version:
    """A file as last read, and when it was `written`. Without a `stamp` the next look reads it again."""

    manifest: Manifest
    digest: bytes = b""
    stamp: Stamp | None = None
    empty: bool = True
    written: datetime | None = None


_NEVER = _Version(Manifest(), b"never read")


@dataclass(frozen=True, slots=True)
class _Look:
    """What was on disk at one moment."""

    versions: Mapping[Path, _Version] = field(default_factory=dict)
    listing: Listing = field(default_factory=Listing)

    def doubtful(self, before: _Look) -> bool:
        """Return whether this may be a moment in the middle of a change."""
        if before.versions.keys() - self.versions.keys():
            return True
        return any(
            version.digest != before.versions.get(path, _NEVER).digest
            for path, version in self.versions.items()
            if version.empty or version.manifest.broken
        )


class FileSource:
    """Keeps a store equal to the objects in some files.

    The later path wins when an object is defined twice. `adapt` may change raw objects before they are decoded.
    """

    def __init__(self, paths: Sequence[Path], store: ObjectStore, adapt: Adapt = as_it_is) -> None:
        self._paths = tuple(paths)
        self._store = store
        self._adapt = adapt
        self._look = _Look()
        self._placed: dict[Key, Placed] = {}
        self._note: Callable[[Cause], None] = lambda _: None

    def load(self) -> None:
        """Read everything into the store. Raises `Unreadable` for a path that cannot be read at all."""
        look = self._look_now()
        if look.listing.missing:
            raise Unreadable(f"{look.listing.missing[0]} does not exist.")
        for path in self._paths:
            if path.is_file():
                # Opened once more for the error alone: in a folder, one unreadable file costs itself only.
                _check_readable(path)
        self._take(look)

    async def follow(self, changed: Callable[[], None], note: Callable[[Cause], None] = lambda _: None) -> None:
        """Read what changes into the store, for ever; call `changed` after each change that anybody could notice.

        `note` hears before that of each object that changed.
        """
        self._note = note
        while True:
            # The first look of each round makes up for what changed while nothing was watched.
            listing = self._look.listing
            if await self._look_again():
                changed()
            if listing.watched == self._look.listing.watched:
                await self._watch(changed)

    def place(self, origin: Origin) -> str:
        """Return `shop.yaml:14` for the field of an object that came from a file, or nothing."""
        if origin.kind not in set(Kind):
            return ""
        placed = self._placed.get((Kind(origin.kind), origin.namespace, origin.name))
        return placed.place(origin.field) if placed is not None else ""

    async def _watch(self, changed: Callable[[], None]) -> None:
        """Look again whenever something changes, until there are other folders to watch."""
        listing = self._look.listing
        if not listing.watched:
            await asyncio.sleep(WATCH_RETRY)
            return
        watch = awatch(
            *listing.watched,
            watch_filter=lambda _, path: self._look.listing.concerns(Path(path)),
            recursive=False,
            step=20,
            debounce=200,
            rust_timeout=POLL_MS,
            yield_on_timeout=True,
        )
        try:
            async for _ in watch:
                if await self._look_again():
                    changed()
                if self._look.listing.watched != listing.watched:
                    return
        except (OSError, RuntimeError) as error:
            # A folder that went away meanwhile, or no watches left: then looking now and then has to do.
            _log.debug("cannot watch: %s", error)
            await asyncio.sleep(WATCH_RETRY)

    async def _look_again(self) -> bool:
        """Take in what is on disk now, or in a moment when there are doubts; return whether anything changed."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                look = await asyncio.to_thread(self._look_now)
            except Unreadable as error:
                problem = Problem(Origin("File", "", ""), "folder_unreadable", str(error), "What was read stays.", "")
                return self._store.report(_FILES, [problem])
            if not look.doubtful(self._look) or time.monotonic() >= deadline:
                return self._take(look)
            await asyncio.sleep(RETRY)

    def _look_now(self) -> _Look:
        listing = list_files(self._paths)
        versions = {}
        for path in listing.files:
            version = _read(path, self._look.versions.get(path), self._adapt)
            if version is not None:
                versions[path] = version
        return _Look(versions, listing)

    def _take(self, look: _Look) -> bool:
        placed: dict[Key, Placed] = {}
        problems = []
        for version in look.versions.values():
            for key, new in version.manifest.objects.items():
                if key in placed:
                    problems.append(twice(placed[key], new))
                placed[key] = new
        changed = self._store.report(_FILES, problems)
        for path in self._look.versions.keys() | look.versions.keys():
            found = look.versions.get(path)
            if self._store.report(f"file {path}", found.manifest.problems if found is not None else ()):
                changed = True
                self._note(_cause_in(path, look))
        causes = [*self._removed(placed, look), *self._put(placed, look)]
        for cause in causes:
            self._note(cause)
        self._look, self._placed = look, placed
        return changed or bool(causes)

    def _removed(self, placed: Mapping[Key, Placed], look: _Look) -> Iterator[Cause]:
        """Take out of the store what is in no file any more."""
        for key in self._placed.keys() - placed.keys():
            if self._store.remove(*key):
                yield _cause(key, Action.DELETED, self._placed[key], look)

    def _put(self, placed: Mapping[Key, Placed], look: _Look) -> Iterator[Cause]:
        """Take into the store what is new, or another version."""
        for key, new in placed.items():
            if self._placed.get(key) is not new and self._store.put(new.found):
                yield _cause(key, Action.CHANGED if key in self._placed else Action.CREATED, new, look)


def _cause(key: Key, action: Action, placed: Placed, look: _Look) -> Cause:
    return Cause(*key, action, _BY, _written(Path(placed.file), look), f"{placed.file}:{placed.line}")


def _cause_in(path: Path, look: _Look) -> Cause:
    """Return the change that another part of a file, or another file, cannot be read."""
    return Cause("File", "", str(path), Action.CHANGED, _BY, _written(path, look))


def _written(path: Path, look: _Look) -> datetime:
    """Return when a file was written; now for one that is gone."""
    return look.versions.get(path, _NEVER).written or datetime.now(UTC)


def _check_readable(path: Path) -> None:
    try:
        path.open("rb").close()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}.") from None


def _read(path: Path, before: _Version | None, adapt: Adapt) -> _Version | None:
    """Return a file's version now, the same object when nothing changed; None when it is gone."""
    manifest = before.manifest if before is not None else Manifest()
    try:
        if before is not None and _stamp(path.stat()) == before.stamp:
            return before
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            # One byte more than is allowed tells that there is more.
            data = file.read(FILE_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _Version(unread(str(path), 0, f"It cannot be read: {error.strerror}.", manifest), empty=False)
    settled = abs(time.time() - status.st_mtime) > SETTLED
    digest = hashlib.blake2b(data).digest()
    if before is None or digest != before.digest:
        manifest = read_manifest(str(path), data, manifest, adapt)
    written = datetime.fromtimestamp(status.st_mtime, UTC)
    return _Version(manifest, digest, _stamp(status) if settled else None, not data.strip(), written)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
