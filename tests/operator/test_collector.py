from __future__ import annotations

import gc

from portway_operator.collector import settle


def test_what_lives_when_all_is_settled_is_walked_no_more() -> None:
    before = gc.get_threshold()
    try:
        settle()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold() > before
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
