"""Findings about hosts, paths and default backends."""

from __future__ import annotations

from portway_operator.decode.fields import show
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "alias_taken",
    "canary_alone",
    "canary_taken",
    "catch_all_refused",
    "default_taken",
    "default_unused",
    "host_unserved",
    "pages_unmade",
    "path_pattern",
    "path_shadowed",
    "path_taken",
    "pattern_impossible",
]


def path_taken(origin: Origin, host: str, path: str, winner: Origin, severity: Severity) -> Problem:
    """Say that an older Ingress has the same host, path and path type."""
    return Problem(
        origin,
        "path_taken",
        f"{host or 'Any host'} {path} is already served by {winner}.",
        "This one is left out; the other serves the path.",
        "Remove one of the two, or give it another host or path.",
        severity,
    )


def path_shadowed(origin: Origin, path: str, winner: Origin) -> Problem:
    """Say that a prefix without slash at its end stands beside the same one with it, which wins."""
    return Problem(
        origin,
        "path_shadowed",
        f"The prefix {path}/ of {winner} matches the same requests and is longer.",
        "No request reaches this one.",
        "Remove one of the two.",
        Severity.NOTICE,
    )


def path_pattern(origin: Origin, path: str) -> Problem:
    """Say that a path looks like a pattern."""
    return Problem(
        origin,
        "path_pattern",
        f"{show(path)} looks like a pattern, and paths are compared literally.",
        "It matches requests that hold these very characters.",
        "Write the prefix alone; pathType Prefix matches all that is below it.",
        Severity.NOTICE,
    )


def pattern_impossible(origin: Origin, path: str, reason: str) -> Problem:
    """Say that a path would be a regular expression, as another path of its host is one, and cannot be."""
    return Problem(
        origin,
        "pattern_impossible",
        f"Another Ingress makes regular expressions of this host's paths, and {show(path)} is none: {reason}.",
        "It is compared literally.",
        "Annotate this Ingress with portway.dev/compatibility: strict, or write the path as an expression.",
        Severity.NOTICE,
    )


def host_unserved(origin: Origin, host: str) -> Problem:
    """Say that a rule has no `http`, and its Ingress has no default backend."""
    return Problem(
        origin,
        "host_unserved",
        f"The rule has no paths for {host or 'any host'}, and the Ingress has no default backend.",
        "Requests go to the overall default backend, or get 404.",
        "Give the rule paths, or the Ingress a defaultBackend.",
        Severity.NOTICE,
    )


def default_taken(origin: Origin, winner: Origin) -> Problem:
    """Say that an older Ingress is the default for everything that nothing else serves."""
    return Problem(
        origin,
        "default_taken",
        f"{winner} is already the default for every host.",
        "This one is left out.",
        "Remove one of the two, or give this Ingress rules.",
    )


def default_unused(origin: Origin, host: str, declared: tuple[str, str]) -> Problem:
    """Say that a host was named first by another Ingress, and is not this default backend's to serve."""
    return Problem(
        origin,
        "default_unused",
        f"{host or 'Any host'} was first named by Ingress {'/'.join(declared)}.",
        "This default backend serves none of the host's requests.",
        "To serve what no other path matches, give this Ingress a rule with the path / for the host.",
        Severity.NOTICE,
    )


def catch_all_refused(origin: Origin) -> Problem:
    """Say that an Ingress would serve every host, which the settings forbid."""
    return Problem(
        origin,
        "catch_all_refused",
        "The Ingress has no rules and would serve every host, which this installation forbids.",
        "It is left out.",
        "Give it rules with hosts.",
    )


def alias_taken(origin: Origin, name: str, host: str) -> Problem:
    """Say that a further host that an Ingress asks for is served already."""
    return Problem(
        origin,
        "alias_taken",
        f"{name} is already served{'' if name == host else f' as {host}'}.",
        "It is left out.",
        "Remove it, or the other one.",
        Severity.NOTICE,
    )


def canary_alone(origin: Origin, host: str, path: str) -> Problem:
    """Say that no Ingress has the path that a canary is to take requests of."""
    return Problem(
        origin,
        "canary_alone",
        f"No other Ingress serves {host or 'any host'} {path} with this path type.",
        "The canary gets no requests of it.",
        "Give the main Ingress the same host, path and path type, or remove the annotation canary.",
    )


def canary_taken(origin: Origin, host: str, path: str, winner: Origin) -> Problem:
    """Say that a path has a canary already."""
    return Problem(
        origin,
        "canary_taken",
        f"{host or 'Any host'} {path} already has the canary {winner}.",
        "This one gets no requests of it.",
        "Remove one of the two.",
    )


def pages_unmade(origin: Origin) -> Problem:
    """Say that nobody makes the pages that an Ingress wants for errors."""
    return Problem(
        origin,
        "pages_unmade",
        "There is no default backend to make these pages.",
        "Errors reach clients as they are.",
        "Set default-backend to a Service of the namespace, or default-backend-service for all Ingresses.",
        Severity.NOTICE,
    )
