"""Which problems of a snapshot may have to do with one request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from portway_proxy.snapshot import Severity

if TYPE_CHECKING:
    from portway_proxy.snapshot import Origin, Problem, Upstream

__all__ = ["related"]

_MOST: Final = 6
_RULES: Final = "spec.rules"


def related(
    problems: Iterable[Problem],
    *,
    host: str = "",
    port: int = 0,
    upstream: Upstream | None = None,
    origin: Origin | None = None,
) -> tuple[Problem, ...]:
    """Return the problems of a route (by its origin), a host, a port and an upstream; errors come first."""
    words = [word for word in (host, f"tcp/{port}" if port else "", f"udp/{port}" if port else "") if word]
    names = re.compile("|".join(rf"(?<![\w.-]){re.escape(word)}(?![\w-])" for word in words)) if words else None
    number = re.compile(rf"\b{port}\b") if port else None
    service = ("", "") if upstream is None else _service(upstream)
    found = [
        problem
        for problem in problems
        if _of_route(problem, origin)
        or (problem.origin.kind == "Service" and (problem.origin.namespace, problem.origin.name) == service)
        or (names is not None and names.search(problem.found) is not None)
        or (number is not None and "port" in problem.code and number.search(problem.found) is not None)
    ]
    found.sort(key=lambda problem: problem.severity is not Severity.ERROR)
    return tuple(found[:_MOST])


def _of_route(problem: Problem, origin: Origin | None) -> bool:
    """Return whether a problem is of the same object, and not of another rule or path of it."""
    if origin is None:
        return False
    theirs = problem.origin
    if (theirs.kind, theirs.namespace, theirs.name) != (origin.kind, origin.namespace, origin.name):
        return False
    return not theirs.field.startswith(_RULES) or theirs.field.startswith(origin.field)


def _service(upstream: Upstream) -> tuple[str, str]:
    namespace, _, rest = upstream.name.partition("/")
    return namespace, rest.partition(":")[0]
