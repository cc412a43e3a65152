"""Each thing that a route and its upstream ask for: its value, where that came from, what it does with one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from portway_proxy.describe import describe_upstream_policy
from portway_proxy.describe_policies import described_fields
from portway_proxy.discretion import discreet_url
from portway_proxy.explain.explanation import PolicyPart
from portway_proxy.networks import Networks
from portway_proxy.snapshot import Balance, Protocol, UpstreamPolicy
from portway_proxy.sources import of_route, of_upstream

if TYPE_CHECKING:
    from portway_proxy.explain.scenario import Rehearsal
    from portway_proxy.explain.trace import Act
    from portway_proxy.snapshot import Policy, Route, Snapshot, Upstream

__all__ = ["policy_parts", "upstream_parts"]

_DEFAULT: Final = "default"
_OF_TLS: Final = "default, as the host has TLS"
_UNSAID: Final = "set; nothing says where"

# The steps of each field (`trace.kind_of`), the first of which is there counts.
_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "https_redirect": ("to_https",),
    "closed": ("_closed",),
    "www": ("ToWww",),
    "cors": ("AnswerOrigins",),
    "app_root": ("ToAppRoot",),
    "redirect": ("ToOther",),
    "limit": ("Limit",),
    "allow": ("FromNetworks",),
    "deny": ("FromNetworks",),
    "any_suffices": ("EitherSuffices", "AskPassword", "AskService", "FromNetworks"),
    "basic": ("AskPassword",),
    "external": ("AskService",),
    "canary": ("ChooseUpstream",),
    "rewrite": ("Rewrite",),
    "patience": ("SetTimeouts",),
    "edits": ("EditAnswer",),
    "certificate": ("AskCertificate",),
    "mirror": ("SendCopy",),
    "rate": ("SetPace",),
    "blocked": ("BlockClients",),
}
_ADDED: Final = ("host", "prefix", "answer", "connection", "request", "hidden")
_TOGETHER: Final = ("allow", "deny", "basic", "external")
_SECOND: Final = {"app_root": "relative", "connection": "old_http"}

_UPSTREAM: Final[Mapping[str, str]] = {
    "hash_on": "requests that are alike in this go to one endpoint",
    "affinity": "the cookie ties a client to one endpoint, from its first answer on",
    "check": "endpoints that do not pass get no requests",
    "ejection": "endpoints that fail requests get none for a while",
    "slow_start": "the share of an endpoint that just became ready grows",
    "capacity": "what is more waits, and gets 503 (queue_full, queue_timeout) when that takes too long",
    "retries": "what an endpoint fails may be sent to another one",
    "close_on_removal": "connections that pass through end with their endpoint",
    "announce": "the connection to the endpoint begins with a PROXY header that names the client",
}


class _Seen(NamedTuple):
    """One request, and the policy of its route."""

    policy: Policy
    rehearsal: Rehearsal
    tls: bool

    def act(self, field: str) -> Act | None:
        """Return what the step of a field did; None where the request did not come to it."""
        acts = (self.rehearsal.trace.of(kind) for kind in _STEPS.get(field, ()))
        return next((act for act in acts if act is not None), None)

    @property
    def peer(self) -> str:
        """The client's address, as far as anybody trusted says."""
        exchange = self.rehearsal.exchange
        return "" if exchange is None else exchange.peer.decode()


def policy_parts(snapshot: Snapshot, route: Route, rehearsal: Rehearsal, *, tls: bool) -> Iterator[PolicyPart]:
    """Yield what the policy of a route asks for, in the order of `/routes`; `tls` says how the request came."""
    policy = route.policy
    if policy is None:
        return
    seen = _Seen(policy, rehearsal, tls)
    for field, text in described_fields(policy):
        places = of_route(snapshot, route, field)
        if not places and field in _SECOND:
            places = of_route(snapshot, route, _SECOND[field])
        usual = _OF_TLS if field == "https_redirect" else _DEFAULT
        yield PolicyPart(field, text, _source(snapshot, places, usual), discreet_url(_does(field, seen)))


def upstream_parts(snapshot: Snapshot, upstream: Upstream) -> Iterator[PolicyPart]:
    """Yield what an upstream asks for beyond the ordinary."""

    def source(field: str) -> str:
        return _source(snapshot, of_upstream(snapshot, upstream, field))

    if upstream.protocol not in (Protocol.HTTP, Protocol.OPAQUE):
        places = of_upstream(snapshot, upstream, "protocol") or (
            f"the port of Service {upstream.name.partition(':')[0]}",
        )
        yield PolicyPart("protocol", str(upstream.protocol), ", ".join(places), "what endpoints speak", "upstream")
    if upstream.balance is not Balance.ROUND_ROBIN:
        yield PolicyPart("balance", str(upstream.balance), source("balance"), "how an endpoint is chosen", "upstream")
    usual = UpstreamPolicy()
    for field in UpstreamPolicy.__struct_fields__:
        value = getattr(upstream.policy or usual, field)
        if value != getattr(usual, field):
            text = ", ".join(describe_upstream_policy(UpstreamPolicy(**{field: value})))
            yield PolicyPart(field, text, source(field), _UPSTREAM[field], "upstream")


def _source(snapshot: Snapshot, places: tuple[str, ...], usual: str = _DEFAULT) -> str:
    if places:
        return ", ".join(places)
    return usual if snapshot.sources else _UNSAID


def _does(field: str, seen: _Seen) -> str:
    """Return what a field does with the request."""
    if field in _ADDED:
        return _added(field, seen)
    if field in _OTHERS:
        return _OTHERS[field](seen)
    if field in _TOGETHER and seen.policy.any_suffices:
        return "one of those that suffice"
    act = seen.act(field)
    if act is None:
        return _left_out(field, seen)
    if not act.passed:
        return f"answers {act.status} ({act.reason})" if act.status else f"refuses it ({act.reason})"
    said = _PASSED.get(field)
    changes = "; ".join(act.changes)
    return changes or ("" if said is None else said(seen))


def _left_out(field: str, seen: _Seen) -> str:
    """Return why the step of a field was not come to."""
    if field == "https_redirect" and seen.tls:
        return "nothing: the request came by TLS"
    acts = seen.rehearsal.trace.acts
    if acts and not acts[-1].passed:
        return "nothing: the request was answered before"
    return ""


def _added(field: str, seen: _Seen) -> str:
    if seen.rehearsal.trace.of("AddFields") is None:
        return _left_out(field, seen)
    policy = seen.policy
    exchange = seen.rehearsal.exchange
    passage = None if exchange is None else exchange.passage
    match field:
        case "host":
            host = passage.host.decode("latin-1") if passage is not None else ""
            return f"the endpoint gets the Host {host or policy.host}"
        case "prefix":
            return "the endpoint gets it as X-Forwarded-Prefix"
        case "answer":
            return f"every answer has {_names(policy.answer)}"
        case "connection":
            return f"the endpoint gets {'it as Connection' if policy.connection else 'HTTP/1.0'}"
        case "request":
            return f"the endpoint gets {_names(policy.request)}, in the place of the client's own"
    return f"the client does not get the endpoint's {', '.join(policy.hidden)}"


def _names(fields: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(name for name, _ in fields)


def _body(seen: _Seen) -> str:
    if not seen.policy.body_size:
        return "a body may be as long as it is"
    exchange = seen.rehearsal.exchange
    length = None if exchange is None else exchange.head.length
    if length is not None and length > seen.policy.body_size:
        return f"answers 413 (body_too_large): the body has {length} bytes"
    return "a longer body gets 413"


def _errors(seen: _Seen) -> str:
    exchange = seen.rehearsal.exchange
    passage = None if exchange is None else exchange.passage
    if passage is not None and passage.failed:
        return f"makes the page for this answer, {passage.failed}"
    return "makes the page where an answer has one of these statuses"


def _access(seen: _Seen) -> str:
    return f"lets {seen.peer} pass"


def _canary(seen: _Seen) -> str:
    exchange = seen.rehearsal.exchange
    if exchange is None or exchange.upstream is None:
        return ""
    return f"it stays with {exchange.upstream.upstream.name}"


def _limit(seen: _Seen) -> str:
    limit = seen.policy.limit
    if limit is not None and limit.exempt and Networks(limit.exempt).hold(seen.peer.encode()):
        return f"nothing: {seen.peer} may ask for as much as it likes"
    return f"lets it pass, as long as {seen.peer} asks for no more"


def _external(seen: _Seen) -> str:
    external = seen.policy.external
    if external is None or not seen.rehearsal.asked:
        return "it lets the request pass"
    asked = seen.rehearsal.asked[0]
    copied = f", and the endpoint gets its {', '.join(external.copied)}" if external.copied else ""
    first = asked.head.partition(b"\r\n")[0].decode("latin-1").rpartition(" ")[0]
    before = f"{asked.upstream} is asked {first.partition('?')[0]}"
    if external.cache_key:
        before += ", unless it has answered this client before"
    return f"{before}; the request goes on when it answers 2xx{copied}"


def _mirror(seen: _Seen) -> str:
    return f"a copy goes to {seen.rehearsal.copies[0].upstream}" if seen.rehearsal.copies else "nobody takes the copy"


def _certificate(seen: _Seen) -> str:
    return "the certificate is good" if seen.tls else "nothing: without TLS nobody is asked"


_OTHERS: Final[Mapping[str, Callable[[_Seen], str]]] = {
    "body_size": _body,
    "errors": _errors,
    "unlogged": lambda _: "the request leaves no access line",
    "tracing": lambda _: "it says how the request is traced",
    "buffering": lambda _: "so much of bodies waits in memory",
}
_PASSED: Final[Mapping[str, Callable[[_Seen], str]]] = {
    "https_redirect": lambda _: "nothing: the path is for those who have no TLS",
    "app_root": lambda _: "nothing: only requests for / are sent there",
    "cors": lambda _: "nothing: the request names no Origin that may read the answer",
    "blocked": lambda _: "nothing: its User-Agent and Referer are not among them",
    "limit": _limit,
    "allow": _access,
    "deny": _access,
    "any_suffices": _access,
    "basic": lambda _: "the password is right; the endpoint does not get to see it",
    "external": _external,
    "canary": _canary,
    "certificate": _certificate,
    "mirror": _mirror,
    "rewrite": lambda _: "the path stays as it is",
    "patience": lambda _: "the endpoint has this much time",
    "edits": lambda _: "the endpoint's cookies and redirects are changed for the client",
    "rate": lambda _: "the answer comes no faster",
}
