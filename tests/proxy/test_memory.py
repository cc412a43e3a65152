from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from portway_proxy.memory import give_back, keep_to_itself

# After a large block was freed, a next one a little smaller would come from the heap, and keep its memory there.
_SCRIPT = """
import ctypes, sys
from portway_proxy.memory import give_back, keep_to_itself

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena o1 o2 o3 mapped o4 o5 o6 o7 o8".split()]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
if sys.argv[1] == "back":
    give_back()
bytes(8 << 20)
block = bytes(6 << 20)
print(library.mallinfo2().arena < 6 << 20)
"""


def _mapped(argument: str) -> bool:
    found = subprocess.run([sys.executable, "-c", _SCRIPT, argument], capture_output=True, text=True, check=True)
    return found.stdout.strip() == "True"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="the C library is not glibc 2.33 or newer")
def test_large_blocks_are_mapped_by_themselves_however_large_those_before_were() -> None:
    assert not _mapped("keep")
    assert _mapped("back")


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    give_back()


def test_a_process_with_keys_leaves_no_core_dump() -> None:
    code = (
        "import ctypes; from portway_proxy.memory import keep_to_itself; keep_to_itself();"
        "print(ctypes.CDLL(None).prctl(3))"  # PR_GET_DUMPABLE
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "0\n"


def test_a_library_without_prctl_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    keep_to_itself()
