"""How near an annotation comes to ingress-nginx's of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["EXACT", "Fidelity", "Grade", "close", "obsolete", "refused"]


class Grade(StrEnum):
    """The grades of nearness."""

    EXACT = "exact"
    CLOSE = "close"
    REFUSED = "refused"
    OBSOLETE = "obsolete"


def _any_value(_: str) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A grade, and in `words` a sentence: what differs, why it is refused, or what became of it.

    `remedy` is a sentence too: what to do instead, where it is refused or obsolete. `concerns` tells the values that a
    difference is about. One that is `strict` is there only where Ingresses are not read as ingress-nginx would.
    """

    grade: Grade
    words: str = ""
    remedy: str = ""
    concerns: Callable[[str], bool] = _any_value
    strict: bool = False


EXACT = Fidelity(Grade.EXACT)
"""What it does is what ingress-nginx does."""


def close(words: str, concerns: Callable[[str], bool] = _any_value, *, strict: bool = False) -> Fidelity:
    """Return that it does nearly the same; `words` is the difference."""
    return Fidelity(Grade.CLOSE, words, "", concerns, strict)


def refused(words: str, remedy: str = "Remove it, or keep this Ingress with another controller.") -> Fidelity:
    """Return that it is not built; `words` is the reason."""
    return Fidelity(Grade.REFUSED, words, remedy)


def obsolete(words: str, remedy: str) -> Fidelity:
    """Return that there is nothing left for it to do; `words` says why, `remedy` names the successor."""
    return Fidelity(Grade.OBSOLETE, words, remedy)
