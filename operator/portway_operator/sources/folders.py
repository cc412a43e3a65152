"""Which files the paths of `portway run` stand for, and what to watch to hear of their changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["SUFFIXES", "Listing", "Unreadable", "list_files"]

SUFFIXES = frozenset({".yaml", ".yml", ".json"})
"""What a file in a folder must end with to be read; a file that is named itself may end with anything."""

Identity = tuple[int, int]


class Unreadable(Exception):
    """A path that cannot be read at all; the message is a sentence with its name."""


@dataclass(slots=True)
class Listing:
    """The files of some paths, and the folders where their changes show.

    `files` are in order of precedence, the last wins. `folders` are those whose every file counts, `beside` those
    where only the names in `names` do; both with their identity, because a folder may be put in another's place.
    `missing` are the paths that stand for nothing.
    """

    files: list[Path] = field(default_factory=list)
    folders: dict[Path, Identity] = field(default_factory=dict)
    beside: dict[Path, Identity] = field(default_factory=dict)
    names: set[Path] = field(default_factory=set)
    missing: list[Path] = field(default_factory=list)

    def concerns(self, path: Path) -> bool:
        """Return whether a change at `path` may be a change of the files."""
        return path.parent in self.folders or path in self.names or path in self.folders

    @property
    def watched(self) -> dict[Path, Identity]:
        """Return every folder to watch."""
        return {**self.beside, **self.folders}


def list_files(paths: Iterable[Path]) -> Listing:
    """Return the files at `paths`: files themselves, folders with all that is below them in order of name.

    Hidden files and folders are left out: editors' temporary files are hidden, and so are the folders that Kubernetes
    swaps behind the links of a mounted ConfigMap. Raises `Unreadable` for a folder that cannot be listed and for what
    is neither file nor folder.
    """
    listing = Listing()
    order: dict[Path, None] = {}
    for path in paths:
        try:
            found = list(_files(path, listing))
        except FileNotFoundError:
            found = []
            listing.missing.append(path)
        except OSError as error:
            raise Unreadable(f"{path} cannot be read: {error.strerror}.") from None
        _watch_beside(path, listing)
        for file in found:
            # A file that is named once more, after its folder, counts from there.
            order.pop(file, None)
            order[file] = None
    listing.files = list(order)
    return listing


def _files(path: Path, listing: Listing) -> Iterator[Path]:
    status = path.stat()
    if path.is_dir():
        yield from _walk(path, listing, set())
    elif path.is_file():
        yield path
    else:
        raise Unreadable(f"{path} is neither a file nor a folder (mode {status.st_mode:o}).")


def _walk(folder: Path, listing: Listing, seen: set[Identity]) -> Iterator[Path]:
    identity = _identity(folder)
    if identity in seen:
        return
    seen.add(identity)
    listing.folders[folder.absolute()] = identity
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path, listing, seen)
        elif path.suffix in SUFFIXES and path.is_file():
            if path.is_symlink():
                _watch_beside(path, listing)
            yield path


def _watch_beside(path: Path, listing: Listing) -> None:
    """Watch for the path itself and for what it leads to, by the folders that hold their names.

    A watch on a file would end with the file, when another takes its place under the same name.
    """
    path = path.absolute()
    links = [each for each in (path, *path.parents) if each.is_symlink()]
    for name in {path, *links, path.resolve()}:
        listing.names.add(name)
        if name.parent.is_dir():
            listing.beside[name.parent] = _identity(name.parent)


def _identity(folder: Path) -> Identity:
    status = folder.stat()
    return status.st_dev, status.st_ino
