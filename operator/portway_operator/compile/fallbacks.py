"""What serves connections to the HTTP port that speak neither HTTP nor TLS: the fallback of an IngressClass of ours."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portway_operator import problems
from portway_operator.compile.upstreams import Upstreams, Wanted
from portway_operator.decode.meta import PREFIX
from portway_operator.objects import IngressClass
from portway_operator.parse import seconds
from portway_operator.problems import Problem, at
from portway_proxy.snapshot import Fallback, Transport

__all__ = ["choose_fallback"]

_KEY = f"{PREFIX}fallback"
_VALUE = re.compile(r"([a-z0-9-]+)/([a-z0-9-]+):([a-z0-9-]+)(?: +(\S+))?")
_wait = seconds(0.01, 60.0)
_REASONS = {"service_missing": "there is no such Service", "port_missing": "the Service has no such TCP port"}


def choose_fallback(classes: Iterable[IngressClass], upstreams: Upstreams, noted: list[Problem]) -> Fallback | None:
    """Return the fallback of the oldest class that has one; what is wrong is added to `noted`.

    Unlike an Ingress, an IngressClass belongs to the cluster's administrator, and may name any namespace.
    """
    chosen: Fallback | None = None
    for one in sorted(classes, key=lambda one: one.meta.precedence):
        value = one.meta.annotations.get(_KEY, "").strip(" ")
        if not value:
            continue
        origin = at(one, f"metadata.annotations[{_KEY}]")
        found = _VALUE.fullmatch(value)
        if found is None:
            noted.append(problems.fallback_invalid(origin, value, "it is not namespace/service:port"))
            continue
        try:
            wait = _wait(found[4] or "1s")
        except ValueError as error:
            noted.append(problems.fallback_invalid(origin, value, f"of the time behind it, {error}"))
            continue
        port = int(found[3]) if found[3].isdecimal() else found[3]
        upstream = upstreams.resolve(Wanted(found[1], found[2], port, Transport.TCP)).upstream
        if upstream.reason in _REASONS:
            noted.append(problems.fallback_invalid(origin, value, _REASONS[upstream.reason]))
        elif chosen is None:
            chosen = Fallback(upstream.name, origin, wait)
        elif chosen.upstream != upstream.name:
            noted.append(problems.fallback_taken(origin, chosen.origin))
    return chosen
