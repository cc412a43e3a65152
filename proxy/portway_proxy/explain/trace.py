"""What each step of a route's policy did with one request, seen from outside."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portway_proxy.errors import ProxyError

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage, Step

__all__ = ["Act", "Trace", "Watched", "kind_of"]


@dataclass(slots=True)
class Act:
    """What one step did: it let the request pass, or answered it (`status`, `reason` and `why`).

    `changes` are sentences about what it made of the request and of the answer.
    """

    step: Step
    passed: bool = False
    status: int = 0
    reason: str = ""
    why: str = ""
    changes: tuple[str, ...] = ()


@dataclass(slots=True)
class Trace:
    """The steps that a request came to, in order; `arrived` once it was sent on."""

    acts: list[Act] = field(default_factory=list)
    arrived: bool = False

    def of(self, kind: str) -> Act | None:
        """Return what the first step called `kind` (its class, or its function) did; None where none was come to."""
        return next((act for act in self.acts if kind_of(act.step) == kind), None)


class Watched:
    """A step that writes down what it does."""

    __slots__ = ("_step", "_trace")

    def __init__(self, step: Step, trace: Trace) -> None:
        self._step = step
        self._trace = trace

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return and raise what the step does."""
        act = Act(self._step)
        self._trace.acts.append(act)
        before = _look(exchange, passage)
        try:
            passed = self._step(exchange, passage)
        except ProxyError as error:
            act.status, act.reason, act.why = error.status, error.reason, str(error)
            raise
        # Where a step holds the request and lets it go on by itself, those that are left were come to meanwhile.
        act.passed = passed or self._trace.arrived or self._trace.acts[-1] is not act
        if passed:
            act.changes = tuple(_differences(before, _look(exchange, passage)))
        elif not act.passed:
            act.status, act.reason = exchange.status or passage.failed, exchange.reason
        return passed


def kind_of(step: Step) -> str:
    """Return what a step is called."""
    return getattr(step, "__name__", type(step).__name__)


@dataclass(slots=True)
class _Look:
    """What a step may change."""

    target: str
    host: str
    upstream: str
    lines: frozenset[bytes]
    fields: bytes
    answer: bytes
    replaced: frozenset[bytes]


def _look(exchange: Exchange, passage: Passage) -> _Look:
    upstream = exchange.upstream
    return _Look(
        exchange.head.target.decode("latin-1"),
        passage.host.decode("latin-1"),
        "" if upstream is None else upstream.upstream.name,
        frozenset(exchange.head.lines),
        passage.fields,
        passage.answer + passage.well,
        passage.replaced,
    )


def _differences(before: _Look, after: _Look) -> list[str]:
    found = []
    if after.target != before.target:
        found.append(f"the endpoint is asked for {after.target}")
    if after.upstream != before.upstream:
        found.append(f"it goes to {after.upstream}")
    if after.host and after.host != before.host:
        found.append(f"the endpoint gets the Host {after.host}")
    if names := _names(after.fields[len(before.fields) :]):
        found.append(f"the endpoint gets {names}")
    if gone := before.lines - after.lines:
        found.append(f"the client's {_names(b''.join(sorted(gone)))} is left out")
    answer = _names(after.answer[len(before.answer) :])
    if answer:
        found.append(f"the client gets {answer}")
    gone_too = {name.decode() for name in after.replaced - before.replaced} - set(answer.lower().split(", "))
    if hidden := ", ".join(sorted(gone_too)):
        found.append(f"the client does not get the endpoint's own {hidden}")
    return found


def _names(lines: bytes) -> str:
    """Return the names of fields, each once, in order."""
    found = [line.partition(b":")[0].decode("latin-1") for line in lines.split(b"\r\n") if line]
    return ", ".join(dict.fromkeys(found))
