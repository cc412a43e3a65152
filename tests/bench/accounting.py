"""What processes cost, as the operating system counts it: CPU seconds and resident memory of whole trees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Memory", "command_line", "cpu_seconds", "memory", "tree"]

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True)
class Memory:
    """Resident memory in bytes: `rss` counts shared pages whole, `pss` divides them among their users."""

    rss: int
    pss: int


def tree(root: int) -> list[int]:
    """Return the process id `root` and those of all its descendants that still run, parents first."""
    found = [root]
    for pid in found:
        found += [child for child in _children(pid) if child not in found]
    return found


def command_line(pid: int) -> str:
    """Return the command line of a process, empty when it has ended."""
    try:
        return _PROC.joinpath(str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def cpu_seconds(pids: list[int]) -> float:
    """Return the user and system time of these processes, all their threads and their reaped children."""
    return sum(_ticks(pid) for pid in pids) / _TICKS


def memory(pids: list[int]) -> Memory:
    """Return the resident memory of these processes together (`/proc/PID/smaps_rollup`)."""
    rss = pss = 0
    for pid in pids:
        sizes = _rollup(pid)
        rss += sizes.get("Rss", 0)
        pss += sizes.get("Pss", 0)
    return Memory(rss, pss)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in _PROC.joinpath(str(pid), "task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def _ticks(pid: int) -> int:
    try:
        text = _PROC.joinpath(str(pid), "stat").read_text()
    except OSError:
        return 0
    # The name, in brackets, may hold spaces; utime, stime, cutime and cstime are the 12th to 15th field after it.
    fields = text.rpartition(")")[2].split()
    return sum(map(int, fields[11:15]))


def _rollup(pid: int) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for line in _PROC.joinpath(str(pid), "smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024
    return sizes
