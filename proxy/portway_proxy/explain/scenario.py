"""What a rehearsal is told, and what comes of it, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from portway_proxy.explain.trace import Trace

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.snapshot import Policy

__all__ = ["Arrival", "Door", "Rehearsal", "Scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What the request alone does not decide.

    `verdict` is what a service answers that is asked who may pass; 0 is nothing of use. `chance`: what goes to a canary
    by chance does; None is what is more likely. `over` is a limit that the client has reached: `rate` or `connections`.
    `certified`: it shows the certificate that it is asked for.
    """

    verdict: int = 200
    chance: bool | None = None
    over: str = ""
    certified: bool = False

    def vary(self, policy: Policy) -> Policy:
        """Return the policy as it is in this scenario."""
        changes: dict[str, object] = {}
        canary, limit, certificate = policy.canary, policy.limit, policy.certificate
        if canary is not None:
            chosen = canary.weight * 2 > canary.total if self.chance is None else self.chance
            changes["canary"] = msgspec.structs.replace(canary, weight=canary.total if chosen else 0)
        if limit is not None and self.over == "rate":
            changes["limit"] = msgspec.structs.replace(limit, rates=tuple((rate, -1) for rate, _ in limit.rates))
        if limit is not None and self.over == "connections":
            changes["limit"] = msgspec.structs.replace(limit, connections=-1)
        if certificate is not None and self.certified:
            changes["certificate"] = msgspec.structs.replace(certificate, subject="")
        return msgspec.structs.replace(policy, **changes) if changes else policy


@dataclass(frozen=True, slots=True)
class Door:
    """How a client comes in: to which port, by TLS or not, and what it was shown and asked for there.

    `strict`: it was shown a certificate for the very name that it asked for. `authority` is the one by which it was
    asked for a certificate of its own.
    """

    port: int
    tls: bool = False
    strict: bool = False
    authority: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a request came to: an upstream, and the `head` that the endpoint gets.

    `endpoint` is empty where it may be any, and `why` says how it is chosen.
    """

    upstream: str
    endpoint: str = ""
    why: str = ""
    head: bytes = b""


@dataclass(slots=True)
class Rehearsal:
    """How it went. `exchange` is None only where nothing of a request came.

    `answer` is what the client got. `asked` is what services are asked who say who may pass, `copies` are those that
    get a copy. `refused` says why the request is none.
    """

    trace: Trace = field(default_factory=Trace)
    exchange: Exchange | None = None
    answer: bytes = b""
    arrival: Arrival | None = None
    asked: list[Arrival] = field(default_factory=list)
    copies: list[Arrival] = field(default_factory=list)
    refused: str = ""
