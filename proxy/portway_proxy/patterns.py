"""Regular expressions that users write, on an engine whose time is linear in the text: none can hold up a worker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re2

__all__ = ["BadPattern", "PatternSet", "compile_pattern"]

_LONGEST: Final = 1000  # Characters of a pattern; nobody writes more by hand.
_MEMORY: Final = 1 << 20  # Bytes that a compiled pattern may take; RE2's own default is 8 MiB.
_SEVERAL: Final = 8  # From so many on, asking all of them at once costs less than one after the other.


class BadPattern(ValueError):
    """A text that is no pattern, or one that the engine does not know (look-around, references to groups)."""


@cache
def _options(*, exact: bool = False) -> re2.Options:
    import re2  # noqa: PLC0415 - 4 MB, and most proxies have no pattern

    options = re2.Options()
    options.case_sensitive = exact
    options.log_errors = False
    options.encoding = re2.Options.Encoding.LATIN1
    options.max_mem = _MEMORY
    return options


def compile_pattern(text: str, *, exact: bool = False) -> re2._Regexp[bytes]:
    """Return a pattern for bytes, which tells upper from lower case when `exact`; raises `BadPattern`."""
    import re2  # noqa: PLC0415 - 4 MB, and most proxies have no pattern

    if len(text) > _LONGEST:
        raise BadPattern(f"it is longer than {_LONGEST} characters")
    try:
        return re2.compile(text.encode(), _options(exact=exact))
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        raise BadPattern(reason.decode() if isinstance(reason, bytes) else str(reason)) from None


class PatternSet:
    """Several patterns in order; `first` finds the first that fits the beginning of a text."""

    __slots__ = ("_all", "_patterns")

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns; raises `BadPattern`."""
        import re2  # noqa: PLC0415 - 4 MB, and most proxies have no pattern

        self._patterns = [compile_pattern(text) for text in patterns]
        self._all: re2.Set | None = None
        if len(patterns) >= _SEVERAL:
            self._all = re2.Set.MatchSet(_options())
            for text in patterns:
                self._all.Add(text.encode())
            self._all.Compile()

    def first(self, text: bytes) -> int:
        """Return the number of the first pattern that fits, or -1."""
        if self._all is not None:
            found = self._all.Match(text)
            if found:
                return int(min(found))
            # Nothing fits, or the engine ran out of the memory it may take: then one after the other finds it.
        for number, pattern in enumerate(self._patterns):
            if pattern.match(text) is not None:
                return number
        return -1

    def groups(self, number: int, text: bytes) -> tuple[bytes, ...]:
        """Return the groups of the pattern with that number in `text`; what took no part is empty."""
        found = self._patterns[number].match(text)
        return () if found is None else tuple(group or b"" for group in found.groups())
