"""Reads text of nginx's configuration into directives, without giving any of them a meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["BadText", "Directive", "read_directives"]

_DEPTH = 10
_TOKEN = re.compile(
    r"""(?P<line>\n)|(?P<blank>[ \t\r]+)|(?P<comment>\#[^\n]*)|(?P<sign>[;{}])
    |"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>(?:[^'\\]|\\.)*)'|(?P<word>(?:\$\{\w+\}|[^\s;{}"'])(?:\$\{\w+\}|\\.|[^\s;{}])*)""",
    re.VERBOSE | re.DOTALL,
)


class BadText(ValueError):
    """A text that is no configuration; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its words, the first of which is its name, and what stands in its braces; None without any."""

    line: int
    words: tuple[str, ...]
    block: tuple[Directive, ...] | None = None

    @property
    def name(self) -> str:
        """Return the name."""
        return self.words[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the words behind the name."""
        return self.words[1:]

    def __str__(self) -> str:
        """Return the directive as one line, without what stands in its braces."""
        text = " ".join(word if re.fullmatch(r"[^\s;{}]+", word) else f'"{word}"' for word in self.words)
        return f"{text};" if self.block is None else f"{text} {{ ... }}"


def read_directives(text: str) -> tuple[Directive, ...]:
    """Return the directives of a text, in order; raises `BadText`."""
    stack: list[tuple[tuple[str, ...], int, list[Directive]]] = [((), 1, [])]
    words: list[str] = []
    line = began = 1
    end = 0
    while end < len(text):
        found = _TOKEN.match(text, end)
        if found is None:
            raise BadText(line, "a quote does not end")
        end = found.end()
        match found.lastgroup:
            case "line":
                line += 1
            case "blank" | "comment":
                pass
            case "sign":
                _sign(found[0], words, began, line, stack)
                words = []
            case kind:
                began = began if words else line
                words.append(found[str(kind)])
                line += found[0].count("\n")
    if words or len(stack) > 1:
        raise BadText(line, "a directive does not end")
    return tuple(stack[0][2])


def _sign(
    sign: str, words: list[str], began: int, line: int, stack: list[tuple[tuple[str, ...], int, list[Directive]]]
) -> None:
    """End a directive, or begin or end a block."""
    if sign == ";" and words:
        stack[-1][2].append(Directive(began, tuple(words)))
    elif sign == "{" and words and len(stack) < _DEPTH:
        stack.append((tuple(words), began, []))
    elif sign == "}" and not words and len(stack) > 1:
        head, first, block = stack.pop()
        stack[-1][2].append(Directive(first, head, tuple(block)))
    elif sign != ";" or words:
        raise BadText(line, f"there is a {sign} too many")
