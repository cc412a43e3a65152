"""Which port a client comes to, and what it is there for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from portway_proxy.describe import describe_listener_policy
from portway_proxy.explain.explanation import OutcomeKind, Rival, Stage, StageName
from portway_proxy.snapshot import ListenerPolicy, Transport
from portway_proxy.sources import of_listener

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway_proxy.explain.question import Question
    from portway_proxy.settings import ProxySettings
    from portway_proxy.snapshot import Listener, Problem, Snapshot

__all__ = ["Entrance", "entrance"]

_SHUT = "port_unavailable"  # The code of the problem of a port that a proxy cannot open.
_USUAL = ListenerPolicy()
_NEAR = 5  # Other ports that are named where one is closed.


class Entrance(NamedTuple):
    """How a client comes in.

    At layer 4 `upstream` says where it goes. It ends right there where `reason` is set: by an answer with `status`, or
    without one.
    """

    stage: Stage
    listener: Listener | None = None
    upstream: str = ""
    reason: str = ""
    status: int = 0

    @property
    def kind(self) -> OutcomeKind:
        """What becomes of who comes in, where that is decided here."""
        if self.reason:
            return OutcomeKind.ANSWER if self.status else OutcomeKind.REFUSE
        return OutcomeKind.RELAY


def entrance(
    snapshot: Snapshot, settings: ProxySettings, question: Question, problems: Iterable[Problem] = ()
) -> Entrance:
    """Return how the client of a question comes in; `problems` are those of the proxy itself."""
    port = question.real_port
    transport = Transport.UDP if question.scheme == "udp" else Transport.TCP
    http = {settings.http_port, settings.public_http_port} - {None}
    https = {settings.https_port, settings.public_https_port} - {None}
    if port not in http | https or transport is Transport.UDP:
        found = next((one for one in snapshot.listeners if (one.port, one.transport) == (port, transport)), None)
        if found is not None:
            shut = next((one for one in problems if one.code == _SHUT and one.origin == found.origin), None)
            return _opaque(snapshot, found, question) if shut is None else _unavailable(found, shut)
    if question.scheme == "udp":
        return _closed(snapshot, transport, port)
    if question.scheme == "tcp":
        if port not in http | https:
            return _closed(snapshot, transport, port)
        return _shared(snapshot, port, tls=port not in http)
    if question.secure:
        return _https(port, http, https)
    return _http(port, http, https)


def _opaque(snapshot: Snapshot, listener: Listener, question: Question) -> Entrance:
    why = "a port of its own, whose bytes pass through as they are"
    if question.scheme in ("http", "https"):
        why += f": nobody looks at the {question.scheme} that is spoken there"
    if listener.bind:
        why += f"; proxies listen on {listener.bind}"
    for field in ListenerPolicy.__struct_fields__ if listener.policy is not None else ():
        places = of_listener(snapshot, listener, field)
        if places and getattr(listener.policy, field) != getattr(_USUAL, field):
            why += f"; {field} by {', '.join(places)}"
    chosen = f"{listener.transport}/{listener.port}{describe_listener_policy(listener.policy)}"
    return Entrance(Stage(StageName.LISTENER, chosen, why, str(listener.origin)), listener, listener.upstream)


def _unavailable(listener: Listener, problem: Problem) -> Entrance:
    stage = Stage(StageName.LISTENER, "none", f"{problem.found} {problem.done}", str(listener.origin))
    return Entrance(stage, listener, reason=_SHUT)


def _closed(snapshot: Snapshot, transport: Transport, port: int) -> Entrance:
    others = sorted(snapshot.listeners, key=lambda one: (one.transport is not transport, abs(one.port - port)))
    near = tuple(Rival(f"{one.transport}/{one.port}", f"another port, for {one.upstream}") for one in others[:_NEAR])
    more = max(0, len(others) - _NEAR)
    stage = Stage(StageName.LISTENER, "none", f"no Service opens {transport}/{port}", "", near, more)
    return Entrance(stage, reason="port_closed")


def _shared(snapshot: Snapshot, port: int, *, tls: bool) -> Entrance:
    """Return how somebody comes in who speaks something else on a port for HTTP or HTTPS."""
    name = f"{'https' if tls else 'http'}, port {port}"
    fallback = snapshot.fallback
    if tls or fallback is None:
        takes = "TLS alone" if tls else "HTTP alone, and no IngressClass names a fallback for the rest"
        return Entrance(Stage(StageName.LISTENER, name, f"it takes {takes}"), reason="not_http")
    why = f"what speaks neither HTTP nor TLS goes to the fallback, and so does who is silent for {fallback.wait:g} s"
    return Entrance(Stage(StageName.LISTENER, name, why, str(fallback.origin)), upstream=fallback.upstream)


def _https(port: int, http: set[int | None], https: set[int | None]) -> Entrance:
    if not https:
        return Entrance(Stage(StageName.LISTENER, "none", "this proxy has no HTTPS port"), reason="port_closed")
    if port in http - https:
        stage = Stage(StageName.LISTENER, f"http, port {port}", "the port is for HTTP without TLS")
        return Entrance(stage, reason="tls_to_plain_port", status=400)
    return Entrance(Stage(StageName.LISTENER, f"https, port {port}", _known(port, https, "HTTPS")))


def _http(port: int, http: set[int | None], https: set[int | None]) -> Entrance:
    if port in https - http:
        stage = Stage(StageName.LISTENER, f"https, port {port}", "the port is for TLS")
        return Entrance(stage, reason="plain_http", status=400)
    if not http:
        return Entrance(Stage(StageName.LISTENER, "none", "this proxy has no HTTP port"), reason="port_closed")
    return Entrance(Stage(StageName.LISTENER, f"http, port {port}", _known(port, http, "HTTP")))


def _known(port: int, ours: set[int | None], what: str) -> str:
    if port in ours:
        return ""
    named = ", ".join(str(one) for one in sorted(one for one in ours if one))
    return f"taken for the {what} port, which this proxy knows as {named}: others may lead there"
