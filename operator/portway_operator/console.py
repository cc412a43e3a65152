"""What `portway run` says on standard error: what it serves, and one line for each change."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TextIO

from portway_proxy.snapshot import Origin, Problem, Snapshot
from portway_proxy.summary import changes, count, routes_of

__all__ = ["Console", "line_of_problem", "printable"]


def printable(text: str) -> str:
    """Return `text` with everything escaped that could begin a line or steer a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def line_of_problem(problem: Problem, place: str = "") -> str:
    """Return the problem as one line, with the place in a file in front when it is known."""
    return printable(f"{place}: {problem}" if place else str(problem)).rstrip()


class Console:
    """The lines, as text or as JSON objects.

    `place` returns where the field of an object stands in a file, or nothing.
    """

    def __init__(self, place: Callable[[Origin], str], log_format: str = "text", out: TextIO | None = None) -> None:
        self._place = place
        self._json = log_format == "json"
        self._out = out if out is not None else sys.stderr
        self._shown = Snapshot()

    def listening(self, **urls: str) -> None:
        """Say where the proxy listens."""
        self._say("listening", "listening on " + ", ".join(f"{url} ({name})" for name, url in urls.items()), **urls)

    def applied(self, generation: int, snapshot: Snapshot) -> None:
        """Say what is served now and what changed since, and what is wrong that was not before."""
        routes, problems = len(routes_of(snapshot)), len(snapshot.problems)
        parts = [count(routes, "route"), count(len(snapshot.listeners), "listener"), count(problems, "problem")]
        line = f"generation {generation}: {', '.join(parts)} ({changes(self._shown, snapshot)})"
        new = set(snapshot.problems) - set(self._shown.problems)
        self._say("applied", line, generation=generation, routes=routes, problems=problems)
        self._problems(problem for problem in snapshot.problems if problem in new)
        self._shown = snapshot

    def _problems(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            place = self._place(problem.origin)
            self._say("problem", f"problem {line_of_problem(problem, place)}", code=problem.code, place=place)

    def _say(self, event: str, line: str, **more: object) -> None:
        text = printable(line)
        if self._json:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            text = json.dumps({"time": now, "event": event, "message": line, **more})
        # Nobody may be reading any more: that is no reason to serve nothing new.
        with suppress(OSError):
            print(text, file=self._out, flush=True)
