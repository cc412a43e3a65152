"""Has the C library give freed memory back: a snapshot comes in megabytes, again and again, and is gone soon."""

from __future__ import annotations

import ctypes
from typing import Final

__all__ = ["give_back"]

# malloc.h's M_MMAP_THRESHOLD. By default glibc raises the threshold to whatever was freed, up to 32 MiB: from then on
# such blocks are cut out of its heaps, one for each thread, which keep them.
_MMAP_THRESHOLD: Final = -3
_LARGE: Final = 1 << 20


def give_back() -> None:
    """Have each block of a MiB and more mapped by itself, so that it goes when it is freed; without glibc, nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        # musl does so anyway.
        return
    mallopt(_MMAP_THRESHOLD, _LARGE)
