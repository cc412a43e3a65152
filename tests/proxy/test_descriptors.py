from __future__ import annotations

import pytest

from portway_proxy.descriptors import TooFewDescriptors, most_connections


def test_without_a_wish_a_worker_takes_as_many_clients_as_its_descriptors_allow() -> None:
    assert most_connections(0, 1024) == 464
    assert most_connections(0, 1 << 20) == 524240


def test_a_wish_that_the_descriptors_allow_is_kept() -> None:
    assert most_connections(464, 1024) == 464


@pytest.mark.parametrize(("wanted", "needed"), [(465, 1026), (0, 98)])
def test_a_wish_beyond_them_is_a_sentence_that_says_what_is_needed(wanted: int, needed: int) -> None:
    with pytest.raises(TooFewDescriptors, match=rf"need {needed} descriptors, .*ulimit -n.*max-worker-connections"):
        most_connections(wanted, min(needed - 2, 1024))
