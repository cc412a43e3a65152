"""What becomes of a request in the end, in sentences, and what may become of it instead."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from portway_proxy.discretion import discreet_url
from portway_proxy.errors import Closed, NoHost
from portway_proxy.explain.explanation import Alternative, Outcome, OutcomeKind
from portway_proxy.explain.reasons import REASONS, Reason
from portway_proxy.explain.scenario import Arrival, Rehearsal, Scenario
from portway_proxy.explain.trace import kind_of
from portway_proxy.l7.lookup import field

if TYPE_CHECKING:
    from portway_proxy.explain.question import Question
    from portway_proxy.explain.rehearsal import Served
    from portway_proxy.explain.scenario import Door
    from portway_proxy.snapshot import Policy, Problem

__all__ = ["alternatives", "forwarded", "outcome_of", "settled"]

_HOW: Final = {
    OutcomeKind.RELAY: "What is sent passes through to",
    OutcomeKind.PASSTHROUGH: "Its TLS passes through, as it is, to",
    OutcomeKind.FORWARD: "The request goes to",
}
_FOREIGN: Final = "rule_foreign"  # The problem of an Ingress that is another controller's.
_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


def forwarded(arrival: Arrival, kind: OutcomeKind, reason: str = "") -> Outcome:
    """Return the outcome of what came to an upstream; `reason` is that of the error for whose page it did."""
    where = f"{arrival.upstream}: {arrival.endpoint or arrival.why}"
    page = f" for the page of an error ({reason})" if reason else ""
    return Outcome(kind, reason=reason, endpoint=arrival.endpoint, says=f"{_HOW[kind]} {where}{page}.")


def outcome_of(found: Rehearsal, problems: tuple[Problem, ...] = ()) -> Outcome:
    """Return what a rehearsal comes to."""
    exchange, location = found.exchange, _location(found.answer)
    reason = "" if exchange is None else exchange.reason
    if found.arrival is not None:
        return forwarded(found.arrival, OutcomeKind.FORWARD, reason)
    status = 0 if exchange is None else exchange.status
    policy = None if exchange is None or exchange.route is None else exchange.route.policy
    # What closes a path has a code of its own, under which its problem stands, and so has a rule of somebody else.
    code = policy.closed if policy is not None and reason == Closed.reason else reason
    codes = (code, _FOREIGN) if reason == NoHost.reason else (code,)
    problem = next((one for one in problems if one.code in codes), None)
    return settled(OutcomeKind.ANSWER, status, reason, problem, location=location, why=found.refused or _why(found))


def _why(found: Rehearsal) -> str:
    """Return why the step answered that did, where more is known of it than its reason says."""
    act = found.trace.acts[-1] if found.trace.acts and not found.trace.arrived else None
    exchange = found.exchange
    if act is None or act.passed or exchange is None:
        return ""
    match kind_of(act.step):
        case "FromNetworks":
            return f"{exchange.peer.decode()} is in no network that may come here, or in one that may not"
        case "BlockClients":
            return "the client's User-Agent or Referer is blocked"
        case "AskPassword":
            known = field(exchange.head.lines, b"authorization") is not None
            return "the user or the password is wrong" if known else "the request has no Authorization"
    return act.why if act.why != act.reason else ""


def settled(
    kind: OutcomeKind, status: int, reason: str, problem: Problem | None = None, *, location: str = "", why: str = ""
) -> Outcome:
    """Return the outcome of what the proxy itself answers, or turns away.

    The `problem` that is the cause, or else `why`, says more than the reason.
    """
    known = REASONS.get(reason, Reason(f"The reason is {reason}.", "See docs/troubleshooting.md and docs/problems.md."))
    says, mend = known
    if problem is not None:
        says, mend = problem.found, f"{problem.remedy} ({problem.origin})"
    if why:
        says = f"{why[:1].upper()}{why[1:]}."
    first = f"{status} {_PHRASES.get(status, '')}".strip() if status else "The connection ends"
    to = f", to {location}" if location else ""
    outcome = Outcome(kind, status, reason, location, says=f"{first}{to}. {says}")
    return msgspec.structs.replace(outcome, mend=mend) if outcome.fails else outcome


def alternatives(served: Served, question: Question, door: Door, base: Rehearsal) -> tuple[Alternative, ...]:
    """Return what becomes of a request when what it does not decide itself is otherwise than in `base`."""
    exchange = base.exchange
    policy = None if exchange is None or exchange.route is None else exchange.route.policy
    found = list(_too_long(served, question, door, base))
    if policy is None:
        return tuple(found)
    for when, scenario in _scenarios(policy, base):
        other = served.rehearse(question, door, scenario)
        if _fate(other) != _fate(base):
            found.append(_alternative(when, other))
    return tuple(found)


def _too_long(served: Served, question: Question, door: Door, base: Rehearsal) -> Iterator[Alternative]:
    """Yield what becomes of a request whose body, of which it does not say the length, turns out to be too long."""
    exchange, arrival = base.exchange, base.arrival
    if exchange is None or arrival is None or not exchange.head.chunked or not exchange.client.body_limit:
        return
    if exchange.passage is not None and exchange.passage.instead is not None:
        return  # For the page of an error the body goes nowhere.
    limit = exchange.client.body_limit
    fields = [(name, value) for name, value in question.fields if name.lower() != "transfer-encoding"]
    longer = msgspec.structs.replace(question, fields=(*fields, ("Content-Length", str(limit + 1))))
    found = _alternative(f"the body has more than {limit} bytes", served.rehearse(longer, door, Scenario()))
    yield found if found.upstream else msgspec.structs.replace(found, upstream=arrival.upstream)


def _scenarios(policy: Policy, base: Rehearsal) -> Iterator[tuple[str, Scenario]]:
    """Yield what could be otherwise of what the request came to, and when that is so."""
    limit, canary, external = policy.limit, policy.canary, policy.external
    peer = "" if base.exchange is None else base.exchange.peer.decode()
    if limit is not None and base.trace.of("Limit") is not None:
        if limit.rates:
            rates = ", ".join(f"{rate:g} a second and {burst} at once" for rate, burst in limit.rates)
            yield f"{peer} sends more requests than {rates}", Scenario(over="rate")
        if limit.connections:
            yield f"{peer} has {limit.connections} requests under way", Scenario(over="connections")
    if external is not None and base.asked:
        service = base.asked[0].upstream
        yield f"{service} answers 401", Scenario(verdict=401)
        yield f"{service} answers 403", Scenario(verdict=403)
        yield f"{service} answers anything else, or not at all", Scenario(verdict=0)
    if canary is not None and base.trace.of("ChooseUpstream") is not None and 0 < canary.weight < canary.total:
        often = canary.weight * 2 > canary.total
        share = canary.total - canary.weight if often else canary.weight
        yield f"chance has it, for {share} of {canary.total}", Scenario(chance=not often)
    if policy.certificate is not None and base.trace.of("AskCertificate") is not None:
        named = f" whose name fits {policy.certificate.subject}" if policy.certificate.subject else ""
        yield f"the client shows a good certificate{named}", Scenario(certified=True)


def _fate(found: Rehearsal) -> tuple[object, ...]:
    """Return what tells two ways to end apart: an answer, of whom it is, and what an endpoint gets."""
    exchange = found.exchange
    ended = None if exchange is None else (exchange.status, exchange.reason)
    upstream = None if exchange is None else exchange.upstream
    name = None if upstream is None else upstream.upstream.name
    return ended, name, None if found.arrival is None else (found.arrival.upstream, found.arrival.head)


def _alternative(when: str, found: Rehearsal) -> Alternative:
    exchange, arrival = found.exchange, found.arrival
    reason = "" if exchange is None else exchange.reason
    if arrival is not None:
        return Alternative(when, OutcomeKind.FORWARD, reason=reason, upstream=arrival.upstream)
    status = 0 if exchange is None else exchange.status
    return Alternative(when, OutcomeKind.ANSWER, status, reason, _location(found.answer), _destination(found))


def _destination(found: Rehearsal) -> str:
    """Return the upstream that a request was on its way to, where it came there or that is not its route's own."""
    exchange = found.exchange
    if exchange is None or exchange.route is None or exchange.upstream is None:
        return ""
    name = exchange.upstream.upstream.name
    return name if found.trace.arrived or name != exchange.route.upstream else ""


def _location(answer: bytes) -> str:
    lines = [line + b"\r\n" for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    return discreet_url((field(lines, b"location") or b"").decode("latin-1"))
