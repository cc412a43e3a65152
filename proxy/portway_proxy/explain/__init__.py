"""Says what becomes of a request, and why, by the code that serves the traffic."""

from portway_proxy.explain.explanation import (
    SCHEMA,
    Alternative,
    EndpointState,
    Explanation,
    Outcome,
    OutcomeKind,
    PolicyPart,
    Rival,
    ShownEndpoint,
    ShownRequest,
    ShownRoute,
    Stage,
    StageName,
)

__all__ = [
    "SCHEMA",
    "Alternative",
    "EndpointState",
    "Explanation",
    "Outcome",
    "OutcomeKind",
    "PolicyPart",
    "Rival",
    "ShownEndpoint",
    "ShownRequest",
    "ShownRoute",
    "Stage",
    "StageName",
]
