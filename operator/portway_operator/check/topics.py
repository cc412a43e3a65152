"""What each problem is about, by its code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from portway_operator.check.report import Finding, Topic
from portway_operator.objects import Kind
from portway_operator.problems import Origin, Problem

__all__ = ["finding_of", "needs"]

_CODES: Final[Mapping[Topic, tuple[str, ...]]] = {
    Topic.CONFLICT: (
        "alias_taken",
        "canary_taken",
        "certificate_taken",
        "default_taken",
        "default_unused",
        "fallback_taken",
        "object_twice",
        "passthrough_taken",
        "path_taken",
        "port_on_service",
        "port_taken",
    ),
    Topic.SHADOWED: ("path_shadowed", "passthrough_paths", "host_passed_through"),
    Topic.SERVICE: (
        "address_refused",
        "external_name_disabled",
        "external_name_refused",
        "no_endpoints",
        "opaque_port",
        "port_missing",
        "service_missing",
    ),
    Topic.CERTIFICATE: (
        "certificate_expired",
        "certificate_expires",
        "certificate_mismatch",
        "host_without_certificate",
        "secret_missing",
    ),
    Topic.ANNOTATION: (
        "annotation_idle",
        "annotation_invalid",
        "annotation_refused",
        "annotation_unknown",
        "auth_secret_empty",
        "auth_secret_foreign",
        "auth_secret_lines",
        "auth_secret_missing",
        "auth_secret_unnamed",
        "canary_alone",
    ),
    Topic.MATCHING: ("path_pattern", "pattern_impossible"),
    Topic.CONFIGURATION: ("collector_missing", "everybody_trusted", "log_variable_unknown", "nobody_trusted"),
}
_TOPICS: Final = {code: topic for topic, codes in _CODES.items() for code in codes}

_NEEDS: Final = {
    "auth_secret_missing": Kind.SECRET,
    "no_endpoints": Kind.ENDPOINT_SLICE,
    "secret_missing": Kind.SECRET,
    "service_missing": Kind.SERVICE,
}


def needs(code: str) -> Kind | None:
    """Return the kind of objects without which a problem says nothing; None when it needs no other."""
    return _NEEDS.get(code)


def finding_of(problem: Problem, place: str) -> Finding:
    """Return a problem as a finding; `place` is where its object stands in a file."""
    return Finding(
        _topic(problem.code, problem.origin),
        problem.code,
        problem.severity,
        problem.origin,
        problem.found,
        problem.done,
        problem.remedy,
        place,
    )


def _topic(code: str, origin: Origin) -> Topic:
    known = _TOPICS.get(code)
    if known is not None:
        return known
    if code.startswith("config_") or origin.kind in {"ConfigMap", "Setting"}:
        return Topic.CONFIGURATION
    if origin.field.startswith("spec.tls"):
        return Topic.CERTIFICATE
    return Topic.ANNOTATION if origin.field.startswith("metadata.annotations") else Topic.OTHER
