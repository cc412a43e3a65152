"""What a parser remembers of request heads: their beginnings, and the blocks of fields behind them.

Clients repeat their fields from request to request, and many ask for the same targets. What was parsed and found to be
sound is not parsed again: a head is looked up by its beginning and its block, each of which was seen before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.snapshot import Route

__all__ = ["Beginning", "Block", "Recall"]

# Of both kinds together: sites with 10,000 routes are asked for all of them, again and again. Each of
_BEGINNINGS: Final = 16_384
_LONGEST_BEGINNING: Final = 128  # bytes at most: with what is made of them 5 MiB as a rule, and 8 at most.
_BLOCKS: Final = 1024  # Of each kind, each of
_LONGEST_BLOCK: Final = 1024  # bytes at most: below 2 MiB.
_PATIENCE: Final = 8  # Strangers for each beginning that is remembered, before they make room for others.


class Beginning:
    """The start line of a head, and the Host where that is the first field; else both hosts are None.

    `route` is what the table that has `mark` said of host and path.
    """

    __slots__ = ("host", "mark", "method", "path", "raw_host", "raw_target", "route", "target")

    route: Route

    def __init__(self, method: bytes, target: bytes, path: bytes, raw_target: bytes) -> None:
        self.method: bytes = method
        self.target: bytes = target
        self.path: bytes = path
        self.raw_target: bytes = raw_target
        self.raw_host: bytes | None = None
        self.host: bytes | None = None
        self.mark: object = None


class Block:
    """The fields behind a beginning, its empty line included; `model` is a head that had them.

    `beginnings` are those of `recall` that it was, or may be, found behind: with a Host when the block has none.
    """

    __slots__ = ("beginnings", "model", "recall", "start", "text")

    def __init__(self, text: bytes, model: RequestHead, beginnings: dict[bytes, Beginning], recall: Recall) -> None:
        self.text = text
        self.model = model
        self.beginnings = beginnings
        self.recall = recall
        self.start = -len(text)


class Recall:
    """The memory of one parser; where it is full it starts over.

    Those who ask for ever new targets would have beginnings be remembered and forgotten all the time: a full memory
    starts over only when it was of no use for long.
    """

    __slots__ = ("_bare", "_blocks", "_hosted", "_rests", "_strangers")

    def __init__(self) -> None:
        self._bare: dict[bytes, Beginning] = {}
        self._hosted: dict[bytes, Beginning] = {}
        self._blocks: dict[bytes, Block] = {}
        self._rests: dict[bytes, Block] = {}
        self._strangers = 0

    def block(self, text: bytes, *, hosted: bool) -> Block | None:
        """Return the block that stood behind a beginning with a Host (`hosted`) or without before."""
        # What follows a Host is no whole block, and means nothing without one.
        return (self._rests if hosted else self._blocks).get(text)

    def keep_block(self, text: bytes, model: RequestHead, *, hosted: bool) -> None:
        """Remember a block that is not too long."""
        if len(text) > _LONGEST_BLOCK:
            return
        blocks, beginnings = (self._rests, self._hosted) if hosted else (self._blocks, self._bare)
        if len(blocks) >= _BLOCKS:
            blocks.clear()
        blocks[text] = Block(text, model, beginnings, self)

    def has_room(self, text: bytes) -> bool:
        """Return whether the beginning `text`, which is not known, may be remembered."""
        if len(text) > _LONGEST_BEGINNING:
            return False
        if len(self._hosted) + len(self._bare) < _BEGINNINGS:
            return True
        self._strangers += 1
        if self._strangers < _PATIENCE * _BEGINNINGS:
            return False
        self._strangers = 0
        self._hosted.clear()
        self._bare.clear()
        return True

    def keep_beginning(self, text: bytes, beginning: Beginning) -> None:
        """Remember a beginning for which there is room."""
        beginnings = self._bare if beginning.raw_host is None else self._hosted
        beginnings[text] = beginning
