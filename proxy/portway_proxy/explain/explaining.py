"""`explain`: what becomes of a request and why, as a value. It reads nothing, asks nobody, and changes nothing.

The proxy's own code decides (`rehearsal`); what stands here only says what was decided, and what else there was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from portway_proxy.discretion import discreet_fields, discreet_head, discreet_url
from portway_proxy.endpoint_states import EndpointRow
from portway_proxy.errors import BadHost, NoEndpoints, NoPath, ProxyError
from portway_proxy.explain.certificates import shown_certificate
from portway_proxy.explain.clients import client_stage
from portway_proxy.explain.explanation import (
    Explanation,
    Outcome,
    OutcomeKind,
    PolicyPart,
    Rival,
    ShownEndpoint,
    ShownRequest,
    Stage,
    StageName,
)
from portway_proxy.explain.listeners import Entrance, entrance
from portway_proxy.explain.outcomes import alternatives, forwarded, outcome_of, settled
from portway_proxy.explain.parts import policy_parts, upstream_parts
from portway_proxy.explain.rehearsal import Around, Served
from portway_proxy.explain.relevance import About, related
from portway_proxy.explain.routes import host_stage, route_stage, shown_route
from portway_proxy.explain.scenario import Arrival, Door, Rehearsal, Scenario
from portway_proxy.l7.target import parse_host
from portway_proxy.routing import NameTable
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Problem, Snapshot
from portway_proxy.tls_names import TlsNames
from portway_proxy.tuning import tuned

if TYPE_CHECKING:
    from portway_proxy.explain.question import Question
    from portway_proxy.snapshot import Upstream

__all__ = ["View", "explain"]

_USUAL: Final = ProxySettings(http_port=80, https_port=443, workers=1)
_MOST_ENDPOINTS: Final = 256


@dataclass(frozen=True, slots=True)
class View:
    """What is served, and what is known around it.

    `now` is seconds since the epoch. `rows` are the states of endpoints, by the names of their upstreams, where a
    running proxy tells them. `problems` are further ones than the snapshot's, as those of the proxy itself. Without
    `settings` ports are 80 and 443. `key` signs affinity cookies where the snapshot brings no key.
    """

    snapshot: Snapshot
    now: float
    generation: int = 0
    settings: ProxySettings = _USUAL
    rows: Mapping[str, tuple[EndpointRow, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    key: bytes = field(default=b"", repr=False)

    @property
    def around(self) -> Around:
        """What a rehearsal has to know of it beside the snapshot."""
        return Around(self.now, self.rows, self.key)


def explain(question: Question, view: View) -> Explanation:
    """Return what becomes of the request that is asked about, and why."""
    snapshot = view.snapshot
    settings = tuned(view.settings, snapshot.settings)
    came = entrance(snapshot, settings, question, view.problems)
    account = _Account(question, view, [came.stage])
    if came.reason:
        return account.ended(came)
    if came.upstream:
        return account.passed_on(came.upstream, OutcomeKind.RELAY)
    served = Served(snapshot, {_host_of(question), question.name}, settings, view.around)
    # Where nothing is known of the proxy its port is the one that is asked.
    known = settings.https_port if question.secure else settings.http_port
    port = question.real_port if view.settings == _USUAL else known or question.real_port
    door = Door(port)
    if question.secure:
        passed = NameTable(snapshot.passthroughs).match(question.name)
        if passed is not None:
            return account.passed_through(passed)
        names = TlsNames(snapshot, served.table)
        if names.terms.reject_unknown and not names.knows(question.name):
            return account.turned_away(names)
        stage, own = shown_certificate(snapshot, names, question.name, view.now)
        account.stages.append(stage)
        authority = names.authority(question.name)
        door = Door(port, tls=True, strict=own, authority="" if authority is None else authority.name)
    return account.served(served, door)


def _host_of(question: Question) -> str:
    """Return the host that a request names, as the table of routes has it."""
    try:
        return parse_host(question.asked_host.encode()).decode()
    except BadHost:
        return ""


class _Account:
    """What was found so far about one question; each public method returns the whole explanation of one way it ends."""

    def __init__(self, question: Question, view: View, stages: list[Stage]) -> None:
        self.question = question
        self.view = view
        self.stages = stages
        self.upstreams = {upstream.name: upstream for upstream in view.snapshot.upstreams}

    def _explanation(self, outcome: Outcome, **parts: object) -> Explanation:
        question = self.question
        shown = ShownRequest(
            question.method if question.scheme in ("http", "https") else "",
            discreet_url(question.url),
            question.client,
            discreet_fields(question.fields),
        )
        found = Explanation(shown, outcome, generation=self.view.generation, stages=tuple(self.stages))
        return msgspec.structs.replace(found, **parts)

    # --- what is no request of HTTP, or never becomes one

    def ended(self, came: Entrance) -> Explanation:
        """Explain that the listener itself turns the client away."""
        origin = None if came.listener is None else came.listener.origin
        problems = self._related(About(port=self.question.real_port, origin=origin))
        cause = next((one for one in problems if one.code == came.reason), None)
        return self._explanation(settled(came.kind, came.status, came.reason, cause), problems=problems)

    def turned_away(self, names: TlsNames) -> Explanation:
        """Explain that there is no handshake: the name that is asked for is no host's."""
        known = tuple(Rival(name, "another name") for name in sorted(names.known)[:3])
        why = f"{self.question.name or 'no name'} is no host's, and such clients are refused (ssl-reject-handshake)"
        self.stages.append(Stage(StageName.CERTIFICATE, "none", why, "", known))
        problems = self._related(About(host=self.question.name))
        return self._explanation(settled(OutcomeKind.REFUSE, 0, "handshake_failed"), problems=problems)

    def passed_through(self, upstream: str) -> Explanation:
        """Explain that TLS of this name goes to its Service as it is."""
        by_host = {one.host: one for one in self.view.snapshot.passthroughs}
        passed = by_host.get(self.question.name) or by_host["*." + self.question.name.partition(".")[2]]
        why = "TLS of this name passes through as it is: nobody here sees a certificate, a path or a field"
        self.stages.append(Stage(StageName.HOST, passed.host, why, str(passed.origin)))
        return self.passed_on(upstream, OutcomeKind.PASSTHROUGH)

    def passed_on(self, name: str, kind: OutcomeKind) -> Explanation:
        """Explain that the bytes of the connection go to an endpoint of an upstream."""
        upstream = self.upstreams[name]
        problems = self._related(About(self.question.name, port=self.question.port, upstream=upstream))
        served = Served(self.view.snapshot, (), self.view.settings, self.view.around)
        policies = tuple(upstream_parts(self.view.snapshot, upstream))
        try:
            arrival = served.relay(name, self.question.client)
        except ProxyError as error:
            reason = error.code if isinstance(error, NoEndpoints) else error.reason
            problem = next((one for one in problems if one.code == reason), None)
            outcome = settled(OutcomeKind.REFUSE, 0, reason, problem)
            self._to_upstream(upstream, None, reason)
        else:
            outcome = forwarded(arrival, kind)
            self._to_upstream(upstream, arrival)
        shown = self._endpoints(upstream)
        return self._explanation(outcome, upstream=name, endpoints=shown, problems=problems, policies=policies)

    # --- requests

    def served(self, served: Served, door: Door) -> Explanation:
        """Explain a request of HTTP, read, routed and walked through its policy."""
        base = served.rehearse(self.question, door, Scenario())
        exchange = base.exchange
        self.stages.append(client_stage(served.trusted, self.question, exchange))
        if exchange is None:
            raise AssertionError("a request that leads to nothing")
        if base.refused:
            self.stages.append(Stage(StageName.REQUEST, "none", base.refused))
            return self._explanation(outcome_of(base), answer=discreet_head(_head(base.answer)))
        snapshot, table, route = self.view.snapshot, served.table, exchange.route
        host, path = exchange.head.host.decode("latin-1"), exchange.head.path.decode("latin-1")
        hosts = table.host(exchange.head.host)
        self.stages.append(host_stage(snapshot, table, host))
        self.stages.append(route_stage(snapshot, table, hosts, route, path))
        parts: dict[str, object] = {}
        policies: list[PolicyPart] = []
        if route is not None:
            policies += policy_parts(snapshot, route, base, tls=door.tls)
            parts["route"] = shown_route(table, hosts, route)
        end = self._end(base, policies, parts)
        served_itself = hosts is not None and hosts.name == host and exchange.reason != NoPath.reason
        missed = "" if served_itself else host
        origin = None if route is None else route.origin
        name = self.question.name if door.tls else ""
        problems = self._related(About(missed, name, upstream=end, origin=origin))
        others = alternatives(served, self.question, door, base)
        outcome = msgspec.structs.replace(outcome_of(base, problems), otherwise=others)
        if base.answer:
            parts["answer"] = discreet_head(_head(base.answer))
        return self._explanation(outcome, policies=tuple(policies), problems=problems, **parts)

    def _end(self, base: Rehearsal, policies: list[PolicyPart], parts: dict[str, object]) -> Upstream | None:
        """Say what the policy did, and where the request goes or would have gone; return that upstream."""
        exchange = base.exchange
        if exchange is None or exchange.route is None:
            return None
        if policies:
            self.stages.append(_policy_stage(base, policies))
        arrival = base.arrival
        name = exchange.route.upstream if exchange.upstream is None else exchange.upstream.upstream.name
        upstream = self.upstreams[arrival.upstream if arrival is not None else name]
        policies += upstream_parts(self.view.snapshot, upstream)
        parts |= {"upstream": upstream.name, "endpoints": self._endpoints(upstream)}
        if arrival is not None:
            parts["head"] = discreet_head(arrival.head)
        reason = "" if arrival is not None else exchange.reason
        self._to_upstream(upstream, arrival, reason, instead_of=exchange.route.upstream, lacks=base.trace.arrived)
        return upstream

    def _to_upstream(
        self,
        upstream: Upstream,
        arrival: Arrival | None,
        reason: str = "",
        *,
        instead_of: str = "",
        lacks: bool = True,
    ) -> None:
        """Say which upstream it is, and which endpoint.

        Without an arrival the upstream `lacks` them, or none is asked.
        """
        passed: tuple[Rival, ...] = ()
        if instead_of not in ("", upstream.name):
            passed = (Rival(instead_of, "the route's own, in the place of which the policy has this one"),)
        service = upstream.name.partition("#")[0].partition(":")[0]
        origin = f"Service {service}"
        why = "" if arrival is not None or lacks else "not asked: the request is answered before"
        self.stages.append(Stage(StageName.UPSTREAM, upstream.name, why, origin, passed))
        if arrival is not None:
            chosen = arrival.endpoint or f"one of {_count(upstream)}"
            self.stages.append(Stage(StageName.ENDPOINT, chosen, arrival.why))
        elif lacks:
            self.stages.append(Stage(StageName.ENDPOINT, "none", f"there is none ({reason})"))

    def _endpoints(self, upstream: Upstream) -> tuple[ShownEndpoint, ...]:
        rows = self.view.rows.get(upstream.name)
        if rows is not None:
            return tuple(ShownEndpoint(row.address, row.state, row.connections) for row in rows[:_MOST_ENDPOINTS])
        return tuple(ShownEndpoint(str(endpoint)) for endpoint in upstream.endpoints[:_MOST_ENDPOINTS])

    def _related(self, about: About) -> tuple[Problem, ...]:
        return related((*self.view.problems, *self.view.snapshot.problems), about)


def _policy_stage(base: Rehearsal, policies: list[PolicyPart]) -> Stage:
    acts = base.trace.acts
    if acts and not acts[-1].passed and not base.trace.arrived:
        last = acts[-1]
        return Stage(StageName.POLICY, "answers the request", f"{last.status} ({last.reason})")
    chosen = "lets the request pass" if base.trace.arrived else "answers the request"
    return Stage(StageName.POLICY, chosen, f"{len(policies)} setting{'s' if len(policies) > 1 else ''} of the route")


def _count(upstream: Upstream) -> str:
    number = len(upstream.endpoints)
    return f"{number} endpoint{'' if number == 1 else 's'}"


def _head(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[0]
