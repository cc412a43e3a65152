"""YAML and JSON text to plain values that know their lines, read as `kubectl` reads them.

Scalars follow go-yaml v2 (what kubectl uses), not PyYAML: `no` is false, but a date or `22:22` stays text, as
Kubernetes wants it. The values are built from parser events with a stack of our own, so that neither depth nor
aliases can cost more than their bounds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

__all__ = ["ALIAS_NODES", "DEPTH", "FILE_SIZE", "BadYaml", "Block", "Document", "Items", "line_of", "read_documents"]

FILE_SIZE = 32 * 1024 * 1024
"""The most bytes of one file (etcd keeps objects of 1.5 MiB; a file may hold a cluster's dump)."""

ALIAS_NODES = 100_000
"""The most nodes that the aliases of one document may stand for (go-yaml draws its line at 400,000)."""

DEPTH = 200
"""The most mappings and sequences inside each other; schemas inside of CRDs reach about 60."""

_TAG = "tag:yaml.org,2002:"
_WORDS: dict[str, object] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"], True),
    **dict.fromkeys(["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"], False),
}
_NUMBER_START = frozenset("+-.0123456789")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_OCTAL = re.compile(r"[-+]?0[0-7]{1,21}")
_BASED = re.compile(r"[-+]?0(?:[xX][0-9a-fA-F]{1,16}|[oO][0-7]{1,21}|[bB][01]{1,64})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,40}|[0-9]{1,40}(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,3})?")
_ESCAPE = re.compile(r"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class BadYaml(Exception):
    """A text that is no YAML, or more of it than we read; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Block(dict[str, object]):
    """A mapping; `lines` has the line of each key."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class Items(list[object]):
    """A sequence; `lines` has the line of each item."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file; `number` and `line` count from 1. An empty one has the value None."""

    number: int
    line: int
    value: object


def read_documents(data: bytes, *, json: bool = False) -> list[Document]:
    """Return the documents of a YAML text, or of a JSON text when `json`.

    Raises `BadYaml` when any of them does not parse, has a key twice, a tag of its own, or exceeds a bound.
    """
    if len(data) > FILE_SIZE:
        raise BadYaml(1, f"the file has {len(data)} bytes, more than the {FILE_SIZE} that are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadYaml(data.count(b"\n", 0, error.start) + 1, "the text is not UTF-8") from None
    if json:
        text = _as_yaml(text)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.feed(event)
    except yaml.MarkedYAMLError as error:
        raise _marked(error) from None
    except yaml.reader.ReaderError as error:
        line = text.encode().count(b"\n", 0, error.position) + 1
        raise BadYaml(line, f"the character U+{int(error.character):04X} is not allowed in YAML") from None
    return builder.documents


def line_of(value: object, field: str, line: int) -> int:
    """Return the line of `field` (`spec.rules[0].host`) inside `value`, which begins on `line`.

    A field that is not there has the line of what should hold it. A key with dots in it is found in the forms
    `annotations.a.b/c` and `annotations[a.b/c]`, quoted or not.
    """
    rest = field
    while rest:
        step = _step(value, rest.removeprefix("."))
        if step is None:
            break
        value, line, rest = step
    return line


def _step(value: object, rest: str) -> tuple[object, int, str] | None:
    if isinstance(value, Items):
        found = re.match(r"\[(\d{1,9})\]", rest)
        index = int(found[1]) if found else len(value)
        return (value[index], value.lines[index], rest[found.end() :]) if found and index < len(value) else None
    if isinstance(value, Block):
        for key in sorted(value.lines, key=len, reverse=True):
            for form in (key, f"[{key}]", f'["{key}"]', f"['{key}']"):
                after = rest[len(form) :]
                if rest.startswith(form) and after[:1] in {"", ".", "["}:
                    return value.get(key), value.lines[key], after
    return None


def _as_yaml(text: str) -> str:
    """Return a JSON text as YAML: two things differ that libyaml minds, tabs and escaped surrogate pairs."""

    def joined(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        return chr(0x10000 + ((int(found[1], 16) & 0x3FF) << 10) + (int(found[2], 16) & 0x3FF))

    return _ESCAPE.sub(joined, text.replace("\t", " "))


def _marked(error: yaml.MarkedYAMLError) -> BadYaml:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    message = " ".join(part for part in (error.problem, error.context) if part)
    if error.context_mark is not None and error.context_mark.line + 1 != line:
        message = f"{message} that begins on line {error.context_mark.line + 1}"
    return BadYaml(line, message)


def resolve(text: str) -> object:
    """Return what a plain scalar stands for: None, a bool, an int of at most 64 bits, a float, or the text."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START:
        return text
    plain = text.replace("_", "")
    if _DECIMAL.fullmatch(plain):
        return int(plain)
    if _OCTAL.fullmatch(plain):
        return int(plain, 8)
    if _BASED.fullmatch(plain):
        return int(plain, 0)
    return float(plain) if _FLOAT.fullmatch(plain) else text


class _Open:
    """A mapping or sequence whose end has not come yet."""

    __slots__ = ("anchor", "count", "key", "merged", "value")

    def __init__(self, value: Block | Items, anchor: str | None, count: int) -> None:
        self.value = value
        self.anchor = anchor
        self.count = count  # The nodes of the document before this one.
        self.key: str | None = None
        self.merged: list[object] = []


class _Builder:
    """Parser events to documents."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[object, int] | None] = {}
        self._count = 0
        self._expanded = 0
        self._line = 1
        self._root: object = None
        self._actions: dict[type[yaml.Event], Callable[..., None]] = {
            yaml.DocumentStartEvent: self._begin,
            yaml.DocumentEndEvent: self._end,
            yaml.ScalarEvent: self._scalar,
            yaml.AliasEvent: self._alias,
            yaml.MappingStartEvent: self._push,
            yaml.SequenceStartEvent: self._push,
            yaml.MappingEndEvent: self._pop,
            yaml.SequenceEndEvent: self._pop,
        }

    def feed(self, event: yaml.Event) -> None:
        """Take the next event."""
        action = self._actions.get(type(event))
        if action is not None:
            mark = event.start_mark
            action(event, mark.line + 1 if mark else 1)

    def _begin(self, _: yaml.Event, line: int) -> None:
        self._anchors.clear()
        self._count = self._expanded = 0
        self._root, self._line = None, line

    def _end(self, _: yaml.Event, __: int) -> None:
        self.documents.append(Document(len(self.documents) + 1, self._line, self._root))

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        self._count += 1
        top = self._open[-1] if self._open else None
        if top is not None and top.key is None and isinstance(top.value, Block):
            value: object = event.value
            if event.value == "<<" and event.implicit[0]:
                top.key = "<<"
                return
        else:
            value = self._value(event, line)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._add(value, line)

    def _value(self, event: yaml.ScalarEvent, line: int) -> object:
        if event.tag is None:
            return resolve(event.value) if event.implicit[0] else event.value
        kind = str(event.tag).removeprefix(_TAG)
        if kind in {"!", "str", "timestamp"}:
            return event.value
        if kind in {"int", "float", "bool", "null"}:
            return resolve(event.value)
        raise BadYaml(line, f"the tag {event.tag} stands for something that is no plain value")

    def _alias(self, event: yaml.AliasEvent, line: int) -> None:
        name = event.anchor or ""
        found = self._anchors.get(name)
        if found is None:
            what = "stands inside of what it names" if name in self._anchors else "has no anchor"
            raise BadYaml(line, f"the alias *{name} {what}")
        value, size = found
        self._count += size
        self._expanded += size
        if self._expanded > ALIAS_NODES:
            raise BadYaml(line, f"the aliases up to *{name} stand for more than {ALIAS_NODES} values")
        self._add(value, line)

    def _push(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        if event.tag is not None and event.tag not in {"!", f"{_TAG}map", f"{_TAG}seq"}:
            raise BadYaml(line, f"the tag {event.tag} stands for something that is no plain value")
        if len(self._open) >= DEPTH:
            raise BadYaml(line, f"more than {DEPTH} mappings and sequences are inside each other")
        value = Block() if isinstance(event, yaml.MappingStartEvent) else Items()
        if event.anchor:
            self._anchors[event.anchor] = None
        self._count += 1
        self._add(value, line)
        self._open.append(_Open(value, event.anchor, self._count - 1))

    def _pop(self, _: yaml.Event, line: int) -> None:
        done = self._open.pop()
        if done.merged and isinstance(done.value, Block):
            for block in _merged(done.merged, line):
                for key, value in block.items():
                    if key not in done.value:
                        done.value[key] = value
                        done.value.lines[key] = block.lines[key]
        if done.anchor:
            self._anchors[done.anchor] = (done.value, self._count - done.count)

    def _add(self, value: object, line: int) -> None:
        if not self._open:
            self._root, self._line = value, line
            return
        top = self._open[-1]
        if isinstance(top.value, Items):
            top.value.append(value)
            top.value.lines.append(line)
        elif top.key is None:
            self._take_key(top, top.value, value, line)
        elif top.key == "<<" and "<<" not in top.value.lines:
            top.merged.append(value)
            top.key = None
        else:
            top.value[top.key] = value
            top.key = None

    def _take_key(self, top: _Open, block: Block, key: object, line: int) -> None:
        if not isinstance(key, str):
            raise BadYaml(line, "a mapping or sequence is used as a key")
        if key in block.lines:
            raise BadYaml(line, f"the key {key!r} is there twice, first on line {block.lines[key]}")
        block.lines[key] = line
        top.key = key


def _merged(values: list[object], line: int) -> Iterator[Block]:
    for value in values:
        for block in value if isinstance(value, Items) else [value]:
            if not isinstance(block, Block):
                raise BadYaml(line, "the merge key << has a value that is no mapping")
            yield block
