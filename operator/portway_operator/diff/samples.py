"""Texts that fit a regular expression, as examples of the requests that its route serves.

Few users' patterns are beyond `/api/v[12]/(.*)`: a text is built part by part, with each alternative once. What a
sample comes to is asked of the route table, so a wrong one does no harm. Python has no other parser of patterns than
that of `re` itself, which is there from 3.11 on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice, product
from re import _constants as signs  # type: ignore[attr-defined] # typeshed leaves out what re is made of
from re import _parser as parser  # type: ignore[attr-defined] # typeshed leaves out what re is made of
from typing import Any, Final

__all__ = ["samples"]

_MOST: Final = 8  # Texts for a pattern.
_FILLERS: Final = "x0/-_.aA~"
_CLASSES: Final = {
    signs.CATEGORY_DIGIT: "0",
    signs.CATEGORY_WORD: "x",
    signs.CATEGORY_SPACE: " ",
    signs.CATEGORY_NOT_DIGIT: "x",
    signs.CATEGORY_NOT_WORD: "-",
    signs.CATEGORY_NOT_SPACE: "x",
}


def samples(pattern: str) -> tuple[str, ...]:
    """Return some paths that fit `pattern`, shortest ones among them; none for what only RE2 understands."""
    try:
        parsed = parser.parse(pattern)
    except (re.error, RecursionError, OverflowError):
        return ()
    texts = (text if text.startswith("/") else f"/{text}" for text in _texts(parsed))
    return tuple(dict.fromkeys(texts))


def _texts(parts: Sequence[Any]) -> list[str]:
    """Return texts that fit a sequence of parsed parts."""
    choices = [_part(sign, value) for sign, value in parts]
    return ["".join(texts) for texts in islice(product(*choices), _MOST)]


def _part(sign: Any, value: Any) -> list[str]:  # noqa: ANN401 - as the parser has it: one case for each sign
    match sign:
        case signs.LITERAL:
            return [chr(value)]
        case signs.NOT_LITERAL:
            return [next(one for one in _FILLERS if ord(one) != value)]
        case signs.ANY:
            return ["x"]
        case signs.IN:
            return _some_of(value)
        case signs.BRANCH:
            return [text for branch in value[1] for text in _texts(branch)][:_MOST]
        case signs.SUBPATTERN:
            return _texts(value[3])
        case signs.MAX_REPEAT | signs.MIN_REPEAT:
            least, most, inner = value
            found = _texts(inner)
            return [text * times for times in {least, min(max(least, 1), most)} for text in found][:_MOST]
    return [""]


def _some_of(members: Sequence[Any]) -> list[str]:
    """Return characters of a class: one for each member, or one that is no member."""
    if members[0][0] is signs.NEGATE:
        return [next((one for one in _FILLERS if not any(_has(member, one) for member in members[1:])), "!")]
    return [_member(sign, value) for sign, value in members[:_MOST]]


def _member(sign: Any, value: Any) -> str:  # noqa: ANN401 - as the parser has it: one case for each sign
    if sign is signs.RANGE:
        return chr(value[0])
    return _CLASSES.get(value, "x") if sign is signs.CATEGORY else chr(value)


def _has(member: tuple[Any, Any], one: str) -> bool:
    sign, value = member
    if sign is signs.RANGE:
        return bool(value[0] <= ord(one) <= value[1])
    if sign is signs.CATEGORY:
        return _CLASSES.get(value) == one
    return bool(value == ord(one))
