"""What fuzzing found, and what it began with, holds in every run; `make fuzz` goes on from here."""

from __future__ import annotations

import pytest

from fuzz.seeds import CORPUS, seeds
from fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_in_the_corpus_does_what_it_never_may(name: str) -> None:
    count = 0
    for seed in seeds(name):
        TARGETS[name](seed)
        count += 1
    assert count > 40


def test_every_directory_of_the_corpus_is_that_of_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    assert all(path.stat().st_size <= 4096 for path in CORPUS.rglob("*") if path.is_file())
