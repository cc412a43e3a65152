"""Golden cases: what each `golden/NAME.yaml` compiles to, one line per route, listener, certificate and problem.

A document with `settings` holds the compile's settings. After a change that is meant:
`UPDATE_GOLDEN=1 pytest tests/operator/test_compile_golden.py`, and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from portway_operator.compile import compile_snapshot
from portway_operator.objects import Kind
from portway_proxy import codec
from portway_proxy.describe import describe
from portway_proxy.snapshot import Snapshot
from scenes import CASES, scene


def compiled(case: Path) -> Snapshot:
    return compile_snapshot(*scene(case)).snapshot


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_case_compiles_to_its_golden_text(case: Path) -> None:
    golden = case.with_suffix(".txt")
    actual = describe(compiled(case))
    if "UPDATE_GOLDEN" in os.environ:
        golden.write_text(actual)
    assert actual == golden.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_proxy_reads_the_case_as_it_was_sent(case: Path) -> None:
    """What changes on the way has another digest, and is refused by every proxy."""
    snapshot = compiled(case)
    assert codec.decode(codec.encode(snapshot))[0] == snapshot


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_was_compiled_before_makes_no_difference_whatever_comes_or_goes(case: Path) -> None:
    store, settings = scene(case)
    compiled = compile_snapshot(store, settings)
    assert compile_snapshot(store, settings, compiled) == compiled
    for kind in Kind:
        shelf = store._shelves[kind]
        for key in list(shelf):
            one = shelf[key]
            store.remove(kind, *key)
            compiled = compile_snapshot(store, settings, compiled)
            assert compiled == compile_snapshot(store, settings), f"without {kind} {key}"
            store.put(one)
            compiled = compile_snapshot(store, settings, compiled)
            assert compiled == compile_snapshot(store, settings), f"with {kind} {key} again"


def test_every_golden_text_has_its_case() -> None:
    assert {text.stem for text in (Path(__file__).parent / "golden").glob("*.txt")} == {case.stem for case in CASES}
