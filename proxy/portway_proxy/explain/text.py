"""An explanation as lines for people: what was decided, step by step, and in the end what to change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.explain.explanation import EndpointState

if TYPE_CHECKING:
    from portway_proxy.explain.explanation import Explanation, Outcome, PolicyPart, ShownEndpoint, Stage

__all__ = ["Line", "Tone", "describe_explanation", "lines_of"]

_WIDTH: Final = 13  # Columns of the names of stages.
_MOST: Final = 12  # Endpoints that are named.


class Tone(StrEnum):
    """What a line is, for those who colour it."""

    TITLE = "title"
    CHOSEN = "chosen"
    WHY = "why"
    PASSED = "passed"
    HEAD = "head"
    GOOD = "good"
    BAD = "bad"
    MEND = "mend"


class Line(NamedTuple):
    """One line: its `label` stands in front, in a column of its own."""

    tone: Tone
    text: str
    label: str = ""

    def __str__(self) -> str:
        """Return the line as text, everything escaped in it that could begin another or steer a terminal."""
        text = self.text if self.tone in (Tone.TITLE, Tone.GOOD, Tone.BAD) else f"{self.label:<{_WIDTH}}{self.text}"
        return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text).rstrip()


def describe_explanation(explanation: Explanation) -> str:
    """Return an explanation as lines, each ended by a newline."""
    return "".join(f"{line}\n" for line in lines_of(explanation))


def lines_of(explanation: Explanation) -> Iterator[Line]:
    """Yield the lines of an explanation, in order."""
    request = explanation.request
    yield Line(Tone.TITLE, f"{request.method} {request.url} from {request.client}".strip())
    for stage in explanation.stages:
        yield from _stage(stage)
        asks = {"policy": "route", "upstream": "upstream"}.get(stage.stage)
        yield from _policies(part for part in explanation.policies if part.of == asks)
    yield from _endpoints(explanation.endpoints)
    yield from _block("head", explanation.head)
    yield from _block("answer", explanation.answer)
    for problem in explanation.problems:
        yield Line(Tone.PASSED, f"{problem.code}: {problem}", "problem")
    yield from _outcome(explanation.outcome)


def _stage(stage: Stage) -> Iterator[Line]:
    yield Line(Tone.CHOSEN, stage.chosen, stage.stage)
    if stage.why:
        yield Line(Tone.WHY, f"because {stage.why}" if stage.stage in ("host", "route", "certificate") else stage.why)
    if stage.origin:
        yield Line(Tone.WHY, f"from {stage.origin}")
    for rival in stage.passed_over:
        yield Line(Tone.PASSED, f"- not {rival.name}: {rival.why}")
    if stage.more:
        yield Line(Tone.PASSED, f"- and {stage.more} more")


def _policies(policies: Iterable[PolicyPart]) -> Iterator[Line]:
    for part in policies:
        named = part.value.startswith((part.name.partition("_")[0], part.name.replace("_", "-")))
        yield Line(Tone.CHOSEN, f"* {part.value if named else f'{part.name}: {part.value}'}")
        if part.source:
            yield Line(
                Tone.WHY, f"  by {part.source}" if part.source.startswith("default") else f"  from {part.source}"
            )
        if part.does:
            yield Line(Tone.WHY, f"  {part.does}")


def _endpoints(endpoints: tuple[ShownEndpoint, ...]) -> Iterator[Line]:
    # Those that are not well first: they are what people look for.
    shown = sorted(endpoints, key=lambda one: one.state == EndpointState.READY)[:_MOST]
    for one in shown:
        count = "" if one.connections is None else f", {one.connections} connections"
        yield Line(Tone.PASSED if one.state != "ready" else Tone.WHY, f"{one.address} {one.state}{count}")
    if len(endpoints) > len(shown):
        yield Line(Tone.WHY, f"and {len(endpoints) - len(shown)} more")


def _block(label: str, text: str) -> Iterator[Line]:
    for number, line in enumerate(text.splitlines()):
        yield Line(Tone.HEAD, line, label if not number else "")


def _outcome(outcome: Outcome) -> Iterator[Line]:
    reason = f" [{outcome.reason}]" if outcome.reason else ""
    yield Line(Tone.BAD if outcome.fails else Tone.GOOD, f"=> {outcome.says}{reason}")
    for other in outcome.otherwise:
        what = f"{other.status} {other.reason}" if other.status else f"it goes to {other.upstream}"
        to = f", to {other.location}" if other.location else ""
        yield Line(Tone.WHY, f"when {other.when}: {what}{to}", "or")
    if outcome.mend:
        yield Line(Tone.MEND, outcome.mend, "to mend it")
