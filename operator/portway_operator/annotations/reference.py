"""The reference of all annotations as Markdown: `make reference` writes it to docs/annotations.md."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from enum import Enum

from portway_operator.annotations import SCOPES
from portway_operator.annotations.fidelity import Fidelity, Grade
from portway_operator.annotations.rows import Invalid, Row, other_rows
from portway_operator.decode.meta import NGINX_PREFIX, PREFIX

__all__ = ["reference"]

_HEAD = f"""\
# Annotations

Made from the tables in `operator/portway_operator/annotations` by `make reference`; a test compares.

Portway's own names begin with `{PREFIX}`. On an Ingress the names of ingress-nginx, which begin with
`{NGINX_PREFIX}`, are read too; where both are there, Portway's own counts. A value that cannot be read
is a problem, shown as an Event, on `/problems` and by the admission webhook. What it does to the traffic is in the
table: the default is used, or, where the annotation guards something, the paths of the Ingress answer 503.
"""
_OURS = "| annotation | ingress-nginx | what it says | default | when it cannot be read | as ingress-nginx |"
_OTHERS = "| annotation of ingress-nginx | what it says | what comes of it | instead |"


def reference() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *(line for kind, scope in SCOPES.items() for line in _scope(str(kind), scope))]) + "\n"


def _scope(kind: str, scope: type) -> Iterator[str]:
    article = "an" if kind[0] in "AEIOU" else "a"
    yield f"## On {article} {kind}\n"
    yield from _table(_OURS, (_ours(field) for field in dataclasses.fields(scope)))
    others = other_rows(scope)
    if others:
        yield f"## Of ingress-nginx on {article} {kind}, and not built\n"
        yield "An annotation that asks for what is off by default anyway is no problem.\n"
        yield from _table(_OTHERS, map(_other, others))


def _table(head: str, lines: Iterator[str]) -> Iterator[str]:
    yield head
    yield "|" + " --- |" * (head.count("|") - 1)
    yield from lines
    yield ""


def _ours(field: dataclasses.Field[object]) -> str:
    entry: Row = field.metadata["row"]
    twins = ", ".join(f"`{name}`" for name in entry.nginx)
    nearness = _nearness(entry.fidelity) if entry.nginx else ""
    return _line(f"`{entry.name}`", twins, entry.doc, _default(field.default), _invalid(entry.invalid), nearness)


def _other(entry: Row) -> str:
    outcome = f"{entry.fidelity.grade}: {entry.fidelity.words}"
    closes = " The paths of the Ingress answer 503." if entry.invalid is Invalid.CLOSE else ""
    return _line(f"`{entry.nginx[0]}`", entry.doc, outcome + closes, entry.fidelity.remedy)


def _nearness(fidelity: Fidelity) -> str:
    return str(fidelity.grade) if fidelity.grade is Grade.EXACT else f"{fidelity.grade}: {fidelity.words}"


def _invalid(invalid: Invalid) -> str:
    return "503" if invalid is Invalid.CLOSE else "default"


def _default(value: object) -> str:
    shown = value.value if isinstance(value, Enum) else value
    if isinstance(shown, bool):
        return f"`{str(shown).lower()}`"
    if isinstance(shown, tuple):
        shown = ", ".join(map(str, shown))
    return "" if shown is None or shown == "" else f"`{shown:g}`" if isinstance(shown, float) else f"`{shown}`"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(reference())
