from __future__ import annotations

from portway_proxy.l7.recall import Beginning, Recall
from portway_proxy.l7.request import RequestHead

MODEL = RequestHead(b"GET", b"/", 1)


def beginning(number: int, host: bytes | None = b"a") -> tuple[bytes, Beginning]:
    target = b"/%d" % number
    made = Beginning(b"GET", target, target, target)
    made.raw_host = made.host = host
    return b"GET %b" % target, made


def keep(recall: Recall, number: int, host: bytes | None = b"a") -> None:
    text, made = beginning(number, host)
    if recall.has_room(text):
        recall.keep_beginning(text, made)


def remembered(recall: Recall, numbers: range) -> list[int]:
    """Return those of the numbers whose beginning, with a Host, is remembered."""
    recall.keep_block(b"\r\n", MODEL, hosted=True)
    block = recall.block(b"\r\n", hosted=True)
    assert block is not None
    return [number for number in numbers if beginning(number)[0] in block.beginnings]


def test_beginnings_with_and_without_a_host_are_kept_apart() -> None:
    recall = Recall()
    keep(recall, 1)
    keep(recall, 2, host=None)
    assert remembered(recall, range(3)) == [1]


def test_what_is_long_is_not_remembered() -> None:
    recall = Recall()
    assert [recall.has_room(b"x" * size) for size in (128, 129)] == [True, False]
    for size in (1024, 1025):
        recall.keep_block(b"x" * size, MODEL, hosted=False)
    assert recall.block(b"x" * 1024, hosted=False) is not None
    assert recall.block(b"x" * 1025, hosted=False) is None


def test_strangers_do_not_drive_out_what_is_known_until_they_are_many() -> None:
    recall = Recall()
    for number in range(30_000):
        keep(recall, number)
    assert remembered(recall, range(30_000)) == list(range(16_384))
    for number in range(30_000, 160_000):
        keep(recall, number)
    left = remembered(recall, range(160_000))
    assert 0 < len(left) <= 16_384
    assert left[0] >= 30_000


def test_the_number_of_blocks_is_bounded() -> None:
    recall = Recall()
    for number in range(5000):
        recall.keep_block(b"%d" % number, MODEL, hosted=True)
    assert sum(recall.block(b"%d" % number, hosted=True) is not None for number in range(5000)) <= 1024
