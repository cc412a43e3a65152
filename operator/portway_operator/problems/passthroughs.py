"""Findings about hosts whose TLS passes through, and about the fallback of a port that is shared."""

from __future__ import annotations

from collections.abc import Sequence

from portway_operator.decode.fields import show
from portway_proxy.snapshot import Origin, Problem, Severity

__all__ = [
    "fallback_invalid",
    "fallback_taken",
    "host_passed_through",
    "passthrough_guarded",
    "passthrough_paths",
    "passthrough_taken",
    "passthrough_without_host",
    "passthrough_without_root",
]


def passthrough_without_host(origin: Origin) -> Problem:
    """Say that a rule without host is to be passed through."""
    return Problem(
        origin,
        "passthrough_without_host",
        "TLS passes through by the name that the client asks for, and this rule has no host.",
        "TLS of clients that ask for no other name ends at the proxy.",
        "Give the rule a host.",
    )


def passthrough_without_root(origin: Origin, host: str) -> Problem:
    """Say that a host is to be passed through, and nothing serves its path `/`."""
    return Problem(
        origin,
        "passthrough_without_root",
        f"Nothing serves the path / of {host}, and what is passed through has no paths.",
        "TLS of this host ends at the proxy.",
        "Add a path / that leads to the Service.",
    )


def passthrough_paths(origin: Origin, host: str, paths: Sequence[str]) -> Problem:
    """Say that paths have no effect on what passes through."""
    return Problem(
        origin,
        "passthrough_paths",
        f"TLS of {host} passes through, so that nobody sees its paths.",
        f"Its other paths ({', '.join(show(path) for path in paths)}) have no effect on https.",
        "Remove them, or do not pass TLS through.",
        Severity.NOTICE,
    )


def passthrough_taken(origin: Origin, host: str, winner: Origin) -> Problem:
    """Say that an older Ingress passes the same host through to another Service."""
    return Problem(
        origin,
        "passthrough_taken",
        f"TLS of {host} already passes through for {winner}.",
        "It goes on going there.",
        "Give the host to one of the two.",
    )


def passthrough_guarded(origin: Origin) -> Problem:
    """Say that what passes through could not be guarded as the same Ingress asks."""
    return Problem(
        origin,
        "passthrough_guarded",
        "Whoever is let in by what the proxy reads cannot be passed through unread.",
        "TLS of its hosts ends at the proxy, which guards them.",
        "Remove either the annotations that guard its paths or those that pass TLS through.",
    )


def host_passed_through(origin: Origin, host: str, winner: Origin) -> Problem:
    """Say that TLS clients do not reach routes, because another Ingress passes their host through."""
    return Problem(
        origin,
        "host_passed_through",
        f"TLS of {host} passes through for {winner}.",
        "These paths are not reached by https.",
        "Give the host to one of the two.",
    )


def fallback_invalid(origin: Origin, value: str, why: str) -> Problem:
    """Say that the fallback of an IngressClass cannot be used."""
    return Problem(
        origin,
        "fallback_invalid",
        f"{show(value)} is no fallback: {why}.",
        "What speaks neither HTTP nor TLS is turned away.",
        "Write namespace/service:port of a Service that exists.",
    )


def fallback_taken(origin: Origin, winner: Origin) -> Problem:
    """Say that an older IngressClass has another fallback."""
    return Problem(
        origin,
        "fallback_taken",
        f"The fallback of {winner} counts already, and a port has only one.",
        "This one has no effect.",
        "Give one IngressClass a fallback.",
    )
