"""The annotations of an Ingress that say how its requests are traced."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.annotations.rows import row
from portway_operator.parse import boolean
from portway_operator.parse_http import span_name

__all__ = ["TracingAnnotations"]


@dataclass(frozen=True)
class TracingAnnotations:
    """What the annotations of an Ingress say about traces."""

    enable_opentelemetry: bool | None = row(
        "enable-opentelemetry",
        boolean,
        default=None,
        makes="tracing",
        doc="Whether requests are traced, where the ConfigMap names a collector; unset, its key of this name says.",
        nginx="enable-opentelemetry",
    )
    opentelemetry_trust_incoming_span: bool | None = row(
        "opentelemetry-trust-incoming-span",
        boolean,
        default=None,
        makes="tracing",
        doc="Whether the trace that a request comes with goes on; unset, the ConfigMap's key of this name says.",
        nginx="opentelemetry-trust-incoming-span",
    )
    opentelemetry_operation_name: str = row(
        "opentelemetry-operation-name",
        span_name,
        default="",
        makes="tracing",
        doc="What the spans are called, perhaps with variables (`HTTP $request_method $uri`); unset, by the method and "
        "the path of the rule.",
        nginx="opentelemetry-operation-name",
    )
