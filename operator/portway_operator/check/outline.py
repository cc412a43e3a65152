"""A report put in order for people: sections of lines, tables, items and text to paste, without a form yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from portway_operator.check.report import AnnotationTotal, Finding, IngressReport, Report, Served, Translation, Verdict
from portway_operator.decode.meta import NGINX_PREFIX
from portway_operator.settings import Compatibility
from portway_proxy.summary import count

__all__ = ["Item", "Section", "outline"]

_SHOWN = 50
_MODES = {
    Compatibility.STRICT: "Paths are matched as the specification of Ingress has it (compatibility: strict).",
    Compatibility.INGRESS_NGINX: "Paths are matched as ingress-nginx does (compatibility: ingress-nginx).",
}
_COLUMNS = ("annotation", "Ingresses", "outcome", "what to know")
_MARKS = {
    Verdict.DIFFERS: "differs",
    Verdict.REFUSED: "refused",
    Verdict.OBSOLETE: "obsolete",
    Verdict.INVALID: "invalid",
    Verdict.UNKNOWN: "unknown",
    Verdict.IDLE: "idle",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to know: a word for how bad it is, where it is, and sentences."""

    mark: str
    where: str
    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part with a title; `code` are texts to paste. A `level` of 1 is the whole."""

    title: str
    level: int = 2
    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    items: tuple[Item, ...] = ()
    code: tuple[str, ...] = ()


def outline(report: Report) -> Iterator[Section]:
    """Yield the sections of a report: what is general first, then each Ingress that is not served exactly."""
    yield Section("Portway check", 1, (*_summary(report), *(f"{one.kind}: {one.reason}" for one in report.unchecked)))
    yield from _annotations(report)
    if report.findings:
        yield Section("Settings and other objects", items=tuple(_item(one) for one in report.findings))
    touched = [one for one in report.ingresses if one.served is not Served.EXACTLY]
    if touched:
        yield Section("Ingresses to look at")
        for one in sorted(touched, key=lambda one: (one.served is not Served.IN_PART, one.key)):
            yield _ingress(one)
    exact = [one.key for one in report.ingresses if one.served is Served.EXACTLY]
    if exact:
        yield Section("Served exactly", lines=(_listed(exact),))


def _summary(report: Report) -> Iterator[str]:
    totals = report.totals
    yield (
        f"{_ingresses(totals.ingresses)}: {totals.exactly} served exactly, {totals.differently} with differences, "
        f"{totals.in_part} not wholly. {count(totals.hosts, 'host')}, {count(totals.routes, 'route')}."
    )
    if totals.foreign:
        yield f"{_ingresses(totals.foreign)} of other classes: not judged."
    topics = ", ".join(f"{topic} {number}" for topic, number in totals.topics.items())
    yield f"{count(totals.errors, 'error')}, {count(totals.notices, 'notice')}{f' ({topics})' if topics else ''}."
    yield _MODES[report.compatibility]


def _annotations(report: Report) -> Iterator[Section]:
    totals = report.totals.annotations
    exact = [f"{_short(one.name)} ({one.ingresses})" for one in totals if one.verdict is Verdict.EXACT]
    rows = tuple(_row(one) for one in totals if one.verdict is not Verdict.EXACT)
    if rows or exact:
        lines = (f"As in ingress-nginx: {', '.join(exact)}.",) if exact else ()
        yield Section("Annotations", 2, lines, _COLUMNS, rows)


def _row(one: AnnotationTotal) -> tuple[str, ...]:
    return _short(one.name), str(one.ingresses), str(one.verdict), f"{one.words} {one.remedy}".strip()


def _short(name: str) -> str:
    return name.removeprefix(NGINX_PREFIX)


def _ingress(one: IngressReport) -> Section:
    place = f" ({one.place})" if one.place else ""
    known = {found.origin.field for found in one.findings}
    items = [_item(found, one.place) for found in one.findings]
    items += [
        Item(_MARKS[use.verdict], use.name, f"{use.words} {use.remedy}".strip())
        for use in one.annotations
        if use.verdict is not Verdict.EXACT and f"metadata.annotations[{use.name}]" not in known
    ]
    hosts = ", ".join(one.hosts) or "no host"
    return Section(
        f"{one.key}{place}: {_HOW[one.served]}",
        3,
        (f"{count(one.routes, 'route')} on {hosts}.", *_exact(one)),
        items=(*items, *(item for found in one.translations for item in _left(found))),
        code=tuple(found.yaml for found in one.translations if found.yaml),
    )


_HOW = {
    Served.EXACTLY: "served exactly",
    Served.DIFFERENTLY: "served with differences",
    Served.IN_PART: "not served wholly",
}


def _exact(one: IngressReport) -> Iterator[str]:
    exact = [use.name.rpartition("/")[2] for use in one.annotations if use.verdict is Verdict.EXACT]
    if exact:
        yield f"As in ingress-nginx: {', '.join(exact)}."


def _left(found: Translation) -> Iterator[Item]:
    name = found.snippet.rpartition("/")[2]
    for line in found.needless:
        yield Item("needless", name, f"{line} Portway does so anyway.")
    for left in found.left:
        yield Item("by hand", f"{name} line {left.line}", f"{left.text} {left.reason}")


def _item(found: Finding, place: str = "") -> Item:
    where = found.origin.field if place or found.origin.kind == "Ingress" else str(found.origin)
    where = f"{found.place}: {where}" if found.place and found.place != place else where
    return Item(f"{found.severity}, {found.topic}", where, f"{found.found} {found.done} {found.remedy}")


def _ingresses(number: int) -> str:
    return f"{number} Ingress{'' if number == 1 else 'es'}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
