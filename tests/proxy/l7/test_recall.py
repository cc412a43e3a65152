from __future__ import annotations

from portway_proxy.l7.recall import Beginning, Recall
from portway_proxy.l7.request import RequestHead

MODEL = RequestHead(b"GET", b"/", 1)


def beginning(number: int, host: bytes | None = b"a") -> tuple[bytes, Beginning]:
    target = b"/%d" % number
    made = Beginning(b"GET", target, target, target)
    made.raw_host = made.host = host
    return b"GET %b" % target, made


def remembered(recall: Recall, numbers: range) -> list[int]:
    """Return those of the numbers whose beginning, with a Host, is remembered."""
    recall.keep_block(b"\r\n", MODEL, hosted=True)
    block = recall.block(b"\r\n", hosted=True)
    assert block is not None
    return [number for number in numbers if beginning(number)[0] in block.beginnings]


def test_beginnings_with_and_without_a_host_are_kept_apart() -> None:
    recall = Recall()
    recall.keep_beginning(*beginning(1))
    recall.keep_beginning(*beginning(2, host=None))
    assert remembered(recall, range(3)) == [1]


def test_what_is_long_is_not_remembered() -> None:
    recall = Recall()
    _, one = beginning(1)
    recall.keep_beginning(b"x" * 257, one)
    recall.keep_beginning(b"x" * 256, one)
    for size in (1024, 1025):
        recall.keep_block(b"x" * size, MODEL, hosted=False)
    block = recall.block(b"x" * 1024, hosted=False)
    assert recall.block(b"x" * 1025, hosted=False) is None
    recall.keep_block(b"\r\n", MODEL, hosted=True)
    hosted = recall.block(b"\r\n", hosted=True)
    assert block is not None
    assert hosted is not None
    assert list(hosted.beginnings) == [b"x" * 256]


def test_strangers_do_not_drive_out_what_is_known_until_they_are_many() -> None:
    recall = Recall()
    for number in range(4096):
        recall.keep_beginning(*beginning(number))
    assert remembered(recall, range(4096)) == list(range(2048))
    for number in range(4096, 20_000):
        recall.keep_beginning(*beginning(number))
    left = remembered(recall, range(20_000))
    assert 0 < len(left) <= 2048
    assert left[0] >= 4096


def test_the_number_of_blocks_is_bounded() -> None:
    recall = Recall()
    for number in range(5000):
        recall.keep_block(b"%d" % number, MODEL, hosted=True)
    assert sum(recall.block(b"%d" % number, hosted=True) is not None for number in range(5000)) <= 1024
