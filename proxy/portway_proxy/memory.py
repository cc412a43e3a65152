"""What becomes of a process's memory: it is given back once it is free, and never written to a disk."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

__all__ = ["give_back", "keep_to_itself"]

# malloc.h's M_MMAP_THRESHOLD. By default glibc raises the threshold to whatever was freed, up to 32 MiB: from then on
# such blocks are cut out of its heaps, one for each thread, which keep them.
_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 20

_SET_DUMPABLE: Final = 4  # PR_SET_DUMPABLE of sys/prctl.h.


def give_back() -> None:
    """Have each block of a MiB and more mapped by itself, so that it goes when it is freed; without glibc, nothing.

    A snapshot comes in megabytes, again and again, and is gone soon.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        # musl does so anyway.
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)


def keep_to_itself() -> None:
    """Have no core dump made of this process, nor its memory read by others of its user: it holds private keys.

    nginx's workers and HAProxy are so too. Whoever is root may still look.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_DUMPABLE, 0)
