"""The forms of a difference: text for a terminal, Markdown for pull requests, and JSON."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from portway_operator.console import printable
from portway_operator.diff.findings import Counted, Difference, Effect, Finding
from portway_proxy.summary import count

__all__ = ["as_json", "as_markdown", "as_schema", "print_text", "summary"]

_TITLES: Final = {
    Effect.PROTECTION_LOST: "Protection lost",
    Effect.TRAFFIC_LOST: "Traffic lost",
    Effect.HANDS: "Changed hands",
    Effect.SHADOWED: "Newly shadowed",
    Effect.CHANGED: "Changed",
    Effect.PROTECTION_GAINED: "Protection gained",
    Effect.ADDED: "Added",
    Effect.MENDED: "Mended",
}
_STYLES: Final = {
    Effect.PROTECTION_LOST: "bold red",
    Effect.TRAFFIC_LOST: "red",
    Effect.HANDS: "magenta",
    Effect.SHADOWED: "yellow",
    Effect.PROTECTION_GAINED: "green",
    Effect.MENDED: "green",
}
_NOTHING: Final = "Nothing differs that a request could tell."
_OPEN: Final = (Effect.PROTECTION_LOST, Effect.TRAFFIC_LOST)
_SHORT: Final = 10  # Rows that a table has before it is folded.
_MOST: Final = 100  # Rows of a table in Markdown: a comment on GitHub has at most 65,536 characters.
_NAMED: Final = 10  # Paths of a group that are named.
_LONGEST: Final = 200  # Characters of a cell.
_SIGN: Final = re.compile(r"([\\`*_{}\[\]()~|!+=-])")
_UNSAFE: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# What GitHub makes links and mentions of, even where it is escaped: a sign of no width parts it.
_LINKED: Final = re.compile(r"(?<=[@#])(?=\w)|(?<=:)(?=//)|(?<=www)(?=\.)|(?<=GH)(?=-)|(?<=\w)(?=@)", re.IGNORECASE)
_APART: Final = "\u200b"


def as_json(difference: Difference) -> str:
    """Return the difference as JSON, by the schema of `as_schema`."""
    return msgspec.json.format(msgspec.json.encode(difference)).decode() + "\n"


def as_schema() -> str:
    """Return the JSON Schema of a difference: `make reference` writes it to docs/diff.schema.json."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Difference))).decode() + "\n"


def summary(difference: Difference) -> str:
    """Return `2 protection lost, 1 changed`, or that nothing differs."""
    found = [(effect, len(difference.of(effect))) for effect in Effect]
    return ", ".join(f"{number} {_TITLES[effect].lower()}" for effect, number in found if number) or _NOTHING


def print_text(difference: Difference, terminal: Console) -> None:
    """Print the difference for people, the gravest first; no name in it can steer the terminal."""
    for line, style in _lines(difference):
        if terminal.is_terminal:
            terminal.print(Text(line, style), soft_wrap=True)
        else:
            terminal.file.write(f"{line}\n")


def _lines(difference: Difference) -> Iterator[tuple[str, str]]:
    for effect in Effect:
        found = difference.of(effect)
        if found:
            style = _STYLES.get(effect, "")
            yield f"{_TITLES[effect]} ({len(found)})", f"bold {style}"
            for alike in _alike(found):
                yield f"  {printable(alike[0].sentence)}", style
                yield from ((f"      {printable(line)}", style) for line in _others(alike))
                yield from ((f"      {printable(line)}", "dim") for line in _origins(alike[0]))
            yield "", ""
    for side in (difference.old, difference.new):
        yield printable(_counts(side)), "dim"
    yield from ((printable(note), "yellow") for note in difference.notes)
    yield printable(summary(difference)), "bold"


def _alike(found: Iterable[Finding]) -> list[list[Finding]]:
    """Return findings in groups: those that say the same of paths of the same objects are read at once."""
    groups: dict[object, list[Finding]] = {}
    for one in found:
        owners = [origin and (origin.kind, origin.namespace, origin.name) for origin in (one.before, one.after)]
        same = (one.kind, one.was, one.now, *owners) if one.host else one.sentence
        groups.setdefault(same, []).append(one)
    return list(groups.values())


def _others(alike: list[Finding]) -> list[str]:
    """Return where else what the first of them says is so."""
    places = [f"{one.host} {one.path}".rstrip() for one in alike[1:]]
    more = f" and {len(places) - _NAMED} more" if len(places) > _NAMED else ""
    return [f"also {', '.join(places[:_NAMED])}{more}"] if places else []


def _origins(finding: Finding) -> list[str]:
    before, after = str(finding.before or ""), str(finding.after or "")
    if before == after:
        return [before] if before else []
    return [f"{mark} {origin}" for mark, origin in (("-", before), ("+", after)) if origin]


def _counts(side: Counted) -> str:
    parts = (
        count(side.hosts, "host"),
        count(side.routes, "route"),
        count(side.listeners, "listener"),
        count(side.problems, "problem"),
    )
    return f"{side.name}: {', '.join(parts)}"


def as_markdown(difference: Difference) -> str:
    """Return the difference as Markdown; no name in it is markup, a link or a mention."""
    return "\n".join(_markdown(difference)) + "\n"


def _markdown(difference: Difference) -> Iterator[str]:
    yield f"### Portway: {escaped(summary(difference)).removesuffix('.')}\n"
    for effect in Effect:
        found = difference.of(effect)
        if found:
            yield from _table(effect, found)
    yield from (f"> {escaped(note)}\n" for note in difference.notes)
    yield "  \n".join(f"{name}: {escaped(_counts(side))}" for name, side in _sides(difference))


def _sides(difference: Difference) -> tuple[tuple[str, Counted], tuple[str, Counted]]:
    return ("Old", difference.old), ("New", difference.new)


def _table(effect: Effect, found: tuple[Finding, ...]) -> Iterator[str]:
    """Yield a table of findings, folded where it is long or nothing to worry about."""
    groups = _alike(found)
    folded = len(groups) > _SHORT or effect not in _OPEN
    sign = "\N{LARGE RED CIRCLE} " if effect is Effect.PROTECTION_LOST else ""
    title = f"{sign}{_TITLES[effect]} ({len(found)})"
    opened = " open" if effect in _OPEN else ""
    yield f"<details{opened}><summary><b>{title}</b></summary>\n" if folded else f"#### {title}\n"
    yield "| What | From |"
    yield "| --- | --- |"
    for alike in groups[:_MOST]:
        what = alike[0].sentence, *_others(alike)
        yield f"| {_cell(what)} | {_cell(_origins(alike[0]))} |"
    if len(groups) > _MOST:
        yield f"| and {len(groups) - _MOST} more | |"
    yield "\n</details>\n" if folded else ""


def _cell(lines: Iterable[str]) -> str:
    return "<br>".join(map(escaped, lines))


def escaped(text: str) -> str:
    """Return text that is shown as it is in a cell of a table on GitHub; what is too long ends in dots."""
    whole = printable(text)
    short = whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]}..."
    apart = _LINKED.sub(_APART, short)
    return _SIGN.sub(r"\\\1", "".join(_UNSAFE.get(sign, sign) for sign in apart))


if __name__ == "__main__":
    sys.stdout.write(as_schema())
