"""HPACK, taken apart (RFC 7541): field blocks to fields, with the dynamic table that both sides keep.

The library `hpack` decodes Huffman's code. The rest is here, because most blocks are the same as one before: a block
that does not change the table means the same until another does, and is then known again without a look at it.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, TypeAlias

from hpack import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from portway_proxy.http2.codes import Code, ConnectionFault

__all__ = ["STATIC", "TABLE_SIZE", "Block", "Field", "Unpacker"]

Field: TypeAlias = tuple[bytes, bytes]

STATIC: Final[tuple[Field, ...]] = tuple(HeaderTable.STATIC_TABLE)
"""The fields that everybody knows, the first of which has the index 1."""

TABLE_SIZE: Final = 4096
"""The size of the dynamic table unless SETTINGS say otherwise, which ours never do."""

_OVERHEAD: Final = 32  # What RFC 7541, 4.1 counts for a field beside its bytes.
_REMEMBERED: Final = 64  # Blocks that are known again, of
_LONGEST: Final = 256  # bytes at most, with
_LONGEST_TEXT: Final = 64  # Bytes of a text that is known again, as many of them: 16 KiB.
_LARGEST: Final = 4096  # bytes of fields at most: together 1 MiB with all that is made of them.


class Block:
    """The fields of one block, in their order.

    `size` counts them as RFC 9113, 6.5.2 does. With `oversize` they were more than may be, and the rest is missing.
    `meaning` is for whoever reads them: what it made of them, as long as the same block comes again.
    """

    __slots__ = ("fields", "meaning", "oversize", "size")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.size = 0
        self.oversize = False
        self.meaning: Any = None


class Unpacker:
    """Takes field blocks apart, in the order in which they came; `limit` is the largest list of fields in bytes."""

    __slots__ = ("_entries", "_known", "_limit", "_most", "_size", "_texts", "changed")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: deque[Field] = deque()
        self._size = 0
        self._most = TABLE_SIZE
        self._known: dict[bytes, Block] = {}
        self._texts: dict[bytes, bytes] = {}
        self.changed = False

    def unpack(self, data: bytes) -> Block:
        """Return the fields of a block; nobody may change them. Raises `ConnectionFault`."""
        known = self._known.get(data)
        if known is not None:
            return known
        self.changed = False
        block = Block()
        try:
            self._unpack(data, block)
        except (HPACKError, IndexError):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a field block is broken") from None
        if self.changed:
            self._known.clear()
        elif len(data) <= _LONGEST and block.size <= _LARGEST:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[data] = block
        return block

    def _unpack(self, data: bytes, block: Block) -> None:
        position, size = 0, len(data)
        while position < size:
            octet = data[position]
            if octet >= 0x80:
                if octet < 0xFF:
                    index, position = octet & 0x7F, position + 1
                else:
                    index, position = _integer(data, position, 0x7F)
                self._collect(block, self._entry(index))
            elif octet >= 0x40:
                field, position = self._literal(data, position, 0x3F)
                self._insert(field)
                self._collect(block, field)
            elif octet >= 0x20:
                if block.fields:
                    raise ConnectionFault(Code.COMPRESSION_ERROR, "the table is resized behind a field")
                most, position = _integer(data, position, 0x1F)
                self._resize(most)
            else:
                field, position = self._literal(data, position, 0x0F)
                self._collect(block, field)

    def _collect(self, block: Block, field: Field) -> None:
        block.size += len(field[0]) + len(field[1]) + _OVERHEAD
        if block.size <= self._limit:
            block.fields.append(field)
        else:
            # Read to its end, or the table would no longer be the peer's.
            block.oversize = True

    def _entry(self, index: int) -> Field:
        if index > len(STATIC):
            return self._entries[index - len(STATIC) - 1]
        if not index:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "no field has the index 0")
        return STATIC[index - 1]

    def _literal(self, data: bytes, position: int, mask: int) -> tuple[Field, int]:
        index = data[position] & mask
        if index == mask:
            index, position = _integer(data, position, mask)
        else:
            position += 1
        if index:
            name = self._entry(index)[0]
        else:
            name, position = self._string(data, position)
        value, position = self._string(data, position)
        return (name, value), position

    def _string(self, data: bytes, position: int) -> tuple[bytes, int]:
        octet = data[position]
        length = octet & 0x7F
        if length == 0x7F:
            length, position = _integer(data, position, 0x7F)
        else:
            position += 1
        end = position + length
        if end > len(data):
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a field block is cut off")
        text = data[position:end]
        return (self._decode(text) if octet >= 0x80 else text), end

    def _decode(self, text: bytes) -> bytes:
        """Return what Huffman's code stands for; some peers say the same names and values of it again and again."""
        decoded = self._texts.get(text)
        if decoded is None:
            decoded = decode_huffman(text)
            if len(text) <= _LONGEST_TEXT:
                if len(self._texts) >= _REMEMBERED:
                    self._texts.clear()
                self._texts[text] = decoded
        return decoded

    def _insert(self, field: Field) -> None:
        self.changed = True
        self._entries.appendleft(field)
        self._size += len(field[0]) + len(field[1]) + _OVERHEAD
        self._evict()

    def _resize(self, most: int) -> None:
        if most > TABLE_SIZE:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "the table would be larger than we allow")
        self.changed = True
        self._most = most
        self._evict()

    def _evict(self) -> None:
        while self._size > self._most:
            name, value = self._entries.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def _integer(data: bytes, position: int, mask: int) -> tuple[int, int]:
    """Return the number at `position` and where it ends (RFC 7541, 5.1)."""
    value = data[position] & mask
    if value < mask:
        return value, position + 1
    for shift in (0, 7, 14, 21):
        position += 1
        octet = data[position]
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position + 1
    # A block has at most some ten thousand bytes: nothing in it is longer, and nothing has a higher index.
    raise ConnectionFault(Code.COMPRESSION_ERROR, "a number in a field block is too large")
