"""What an explanation says, as values: the contract of `portway explain --json` and `/explain?format=json`.

Fields are only ever added within one `SCHEMA`. Nothing in here holds the value of a field that may be a secret
(Authorization, cookies, tokens): it is shown as `...`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from portway_proxy.snapshot import Problem

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

SCHEMA: Final = 1
"""The version of this form; another one where a field goes or changes its meaning."""


class StageName(StrEnum):
    """The stages of a request's way, in their order; those that it does not come to are left out."""

    REQUEST = "request"
    LISTENER = "listener"
    CERTIFICATE = "certificate"
    CLIENT = "client"
    HOST = "host"
    ROUTE = "route"
    POLICY = "policy"
    UPSTREAM = "upstream"
    ENDPOINT = "endpoint"


class OutcomeKind(StrEnum):
    """What becomes of a request.

    `forward`: an endpoint gets it. `answer`: the proxy answers it, redirects included. `passthrough`: its TLS goes to
    an endpoint as it is. `relay`: so do the bytes of a layer 4 port. `refuse`: the connection ends without an answer.
    """

    FORWARD = "forward"
    ANSWER = "answer"
    PASSTHROUGH = "passthrough"
    RELAY = "relay"
    REFUSE = "refuse"


class EndpointState(StrEnum):
    """How an endpoint fares; `ready` is all that is known of one from files or from a cluster."""

    READY = "ready"
    FAILING = "failing"
    EJECTED = "ejected"
    DRAINING = "draining"


class Rival(msgspec.Struct, frozen=True):
    """What could have been chosen in a stage, and why it was not."""

    name: str
    why: str


class Stage(msgspec.Struct, frozen=True):
    """One decision: what was `chosen`, why, from which object and field, and what else was there.

    `more` counts those that are passed over and not named.
    """

    stage: StageName
    chosen: str
    why: str = ""
    origin: str = ""
    passed_over: tuple[Rival, ...] = ()
    more: int = 0


class PolicyPart(msgspec.Struct, frozen=True):
    """One thing that is asked for: its value, where that came from, and what it does with this request.

    `of` is who asks for it, `route` or `upstream`; `name` is the field of its policy. An empty `does` is nothing.
    """

    name: str
    value: str
    source: str = ""
    does: str = ""
    of: str = "route"


class ShownRequest(msgspec.Struct, frozen=True):
    """The request that was asked about, without secrets. `client` is the address that it comes from."""

    method: str
    url: str
    client: str
    fields: tuple[tuple[str, str], ...] = ()


class ShownRoute(msgspec.Struct, frozen=True):
    """The route that serves the request; `host` is empty for any host."""

    host: str
    path: str
    match: str
    origin: str


class ShownEndpoint(msgspec.Struct, frozen=True):
    """An endpoint (`10.0.0.1:8080`), how it fares, and its open connections; None where nobody counts them."""

    address: str
    state: EndpointState = EndpointState.READY
    connections: int | None = None


class Alternative(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of the request instead, `when` something that the request alone does not decide is so."""

    when: str
    kind: OutcomeKind
    status: int = 0
    reason: str = ""
    location: str = ""
    upstream: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """What becomes of the request, as far as the proxy decides it.

    `status` and `reason` (the reason code) are the proxy's own answer: 0 and empty where an endpoint gives it.
    `endpoint` is the one that gets the request, where that does not depend on what else goes on. `otherwise` is what
    may become of it instead, by a limit, by chance or by another service's word. `says` is a sentence, `mend` what to
    change when the answer is an error, empty otherwise.
    """

    kind: OutcomeKind
    status: int = 0
    reason: str = ""
    location: str = ""
    endpoint: str = ""
    says: str = ""
    mend: str = ""
    otherwise: tuple[Alternative, ...] = ()

    @property
    def fails(self) -> bool:
        """Whether the client gets an error of the proxy's own, or no answer at all.

        A client of gRPC gets its errors by 200, a status that the proxy has no other use for.
        """
        return self.kind is OutcomeKind.REFUSE or (self.kind is OutcomeKind.ANSWER and not 201 <= self.status < 400)


class Explanation(msgspec.Struct, frozen=True):
    """What becomes of one request, and why.

    `upstream` and `route` are those that were chosen, where it came so far. `head` is the request head that would reach
    the endpoint, with secrets left out; `answer` is the head of the proxy's own answer. `problems` are those that may
    have to do with it.
    """

    request: ShownRequest
    outcome: Outcome
    schema: int = SCHEMA
    generation: int = 0
    stages: tuple[Stage, ...] = ()
    policies: tuple[PolicyPart, ...] = ()
    route: ShownRoute | None = None
    upstream: str = ""
    endpoints: tuple[ShownEndpoint, ...] = ()
    head: str = ""
    answer: str = ""
    problems: tuple[Problem, ...] = ()
