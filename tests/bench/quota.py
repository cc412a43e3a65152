"""Lets processes have a part of a core each, so that a proxy is what there is too little of."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.processes import Fault

__all__ = ["capped"]

_V1 = Path("/sys/fs/cgroup/cpu")
_PERIOD = 20_000  # Microseconds: short, so that a request waits for a few milliseconds and not for a hundred.


@contextmanager
def capped(processes: Sequence[int], share: float) -> Iterator[None]:
    """Allow each process (its threads together) `share` of a core; raises `Fault` where that cannot be had."""
    with ExitStack() as stack:
        for pid in processes:
            stack.enter_context(_capped(pid, share))
        yield


@contextmanager
def _capped(pid: int, share: float) -> Iterator[None]:
    old = _group_of(pid)
    group = old / f"portway-bench-{os.getpid()}-{pid}"
    try:
        group.mkdir()
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD))
        (group / "cpu.cfs_quota_us").write_text(str(int(_PERIOD * share)))
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        raise Fault(f"no control group to cap the CPU of a worker: {error}") from None
    try:
        yield
    finally:
        with suppress(OSError):
            (old / "cgroup.procs").write_text(str(pid))
            group.rmdir()


def _group_of(pid: int) -> Path:
    """Return the group of a process in the hierarchy that caps CPU time (version 1 of control groups)."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "cpu" in controllers.split(","):
            return _V1 / path.lstrip("/")
    raise Fault("no control group to cap the CPU of a worker: there is no `cpu` hierarchy")
