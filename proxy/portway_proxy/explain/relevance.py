"""Which problems of a snapshot may have to do with one request."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.snapshot import Severity

if TYPE_CHECKING:
    from portway_proxy.snapshot import Origin, Problem, Upstream

__all__ = ["About", "related"]

_MOST: Final = 6
_RULES: Final = "spec.rules"
_OF_TLS: Final = ("certificate_", "secret_", "passthrough_", "host_passed_")


class About(NamedTuple):
    """What a question is about: a host, a port, an upstream, a route (by its origin).

    `name` is the one that a TLS client asks for; problems of certificates and of what passes through count for it.
    """

    host: str = ""
    name: str = ""
    port: int = 0
    upstream: Upstream | None = None
    origin: Origin | None = None


def related(problems: Iterable[Problem], about: About) -> tuple[Problem, ...]:
    """Return the problems that may have to do with what a question is about; errors come first."""
    host, name, port, upstream, origin = about
    hosts, names = _name(host), _name(name)
    number = re.compile(rf"\b{port}\b") if port else None
    service = ("", "") if upstream is None else _service(upstream)
    found = [
        problem
        for problem in problems
        if _of_route(problem, origin)
        or (problem.origin.kind == "Service" and (problem.origin.namespace, problem.origin.name) == service)
        or (origin is not None and str(origin) in problem.found)
        or (hosts is not None and hosts.search(problem.found) is not None)
        or (names is not None and problem.code.startswith(_OF_TLS) and names.search(problem.found) is not None)
        or (number is not None and "port" in problem.code and number.search(problem.found) is not None)
    ]
    found.sort(key=lambda problem: problem.severity is not Severity.ERROR)
    return tuple(found[:_MOST])


def _name(name: str) -> re.Pattern[str] | None:
    """Return what finds a name, or the wildcard above it, in a sentence."""
    first, dot, rest = name.partition(".")
    label = rf"(?:{re.escape(first)}|\*)" if dot else re.escape(first)
    return re.compile(rf"(?<![\w.*-]){label}{re.escape(dot + rest)}(?![\w-])") if name else None


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
