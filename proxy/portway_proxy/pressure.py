"""How much of the memory that a worker may use is used: its own, and that of the control group that it belongs to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

__all__ = ["Group", "Pressure"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_NO_LIMIT: Final = 1 << 60  # Version 1 writes "none" as a number of pages that no machine has.
_VERSION_1: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file")
_VERSION_2: Final = ("memory.max", "memory.current", "inactive_file", "active_file")


class Group:
    """A control group with a limit of memory, of version 1 or 2; its files stay open."""

    __slots__ = ("_cached", "_stat", "_usage", "limit")

    def __init__(self, folder: Path, names: tuple[str, str, str, str]) -> None:
        limit, usage, inactive, active = names
        self.limit = _number((folder / limit).read_text("ascii"))
        self._cached = (f"{inactive} ", f"{active} ")
        self._usage = os.open(folder / usage, os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(folder / "memory.stat", os.O_RDONLY | os.O_CLOEXEC)

    @classmethod
    def find(cls, root: Path = Path("/")) -> Group | None:
        """Return the group that limits this process most, or None when nothing does; the files are under `root`."""
        found = []
        for folder, names in _folders(root):
            try:
                group = cls(folder, names)
            except (OSError, ValueError):
                continue  # The root group has no limit, and a container does not see those above its own.
            if group.limit < _NO_LIMIT:
                found.append(group)
            else:
                group.close()
        tightest = min(found, key=lambda group: group.limit, default=None)
        for group in found:
            if group is not tightest:
                group.close()
        return tightest

    def used(self) -> int:
        """Return the bytes that are used, without cached files, which the kernel drops before it kills anybody."""
        cached = 0
        for line in os.pread(self._stat, 65536, 0).decode("ascii").splitlines():
            if line.startswith(self._cached):
                cached += int(line.rpartition(" ")[2])
        return _number(os.pread(self._usage, 64, 0).decode("ascii")) - cached

    def close(self) -> None:
        """Close the files."""
        os.close(self._usage)
        os.close(self._stat)


class Pressure:
    """Compares what is used with `limit`, in bytes of this process (0: none), and with the limit of its group."""

    __slots__ = ("_group", "_statm", "limit")

    def __init__(self, limit: int, group: Group | None) -> None:
        self.limit = limit
        self._group = group
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the files."""
        os.close(self._statm)
        if self._group is not None:
            self._group.close()

    def share(self) -> float:
        """Return what is used of what may be, from 0 to 1 and beyond; 0 without any limit. It takes some 30 us."""
        share = 0.0
        if self.limit:
            share = int(os.pread(self._statm, 256, 0).split(b" ", 2)[1]) * _PAGE / self.limit
        if self._group is not None:
            try:
                share = max(share, self._group.used() / self._group.limit)
            except OSError:  # The group is gone: whoever moved us has another in mind.
                self._group = None
        return share


def _folders(root: Path) -> list[tuple[Path, tuple[str, str, str, str]]]:
    """Return the folders of our group and of those above it, as far as they can be seen, each with its files' names."""
    mounts = root / "sys/fs/cgroup"
    found = []
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (mounts / "memory", _VERSION_1) if controllers else (mounts, _VERSION_2)
        own = Path(path.lstrip("/"))
        # A container may see its own group as the top while this file names it as its host does.
        found += [(top / part, names) for part in (own, *own.parents)]
    return found


def _number(text: str) -> int:
    return _NO_LIMIT if text.strip() == "max" else int(text)
