"""A worker that serves one request and touches nothing: the code of the traffic, with nothing real around it.

The client is a real client's connection on a transport that leads nowhere. Its bytes are read, routed and walked
through the policy of their route as any others; where an endpoint would be connected to, the head that it would get is
kept. Nothing is counted, written, asked or remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from portway_proxy.errors import BadSnapshot
from portway_proxy.explain.ends import RehearsedUpstream
from portway_proxy.explain.props import AtOnce, Good, Journal, Side, Still, Transport
from portway_proxy.explain.scenario import Arrival, Door, Rehearsal, Scenario
from portway_proxy.explain.trace import Trace, Watched
from portway_proxy.l7.client import ClientConnection
from portway_proxy.l7.http import Http
from portway_proxy.l7.identity import Trusted
from portway_proxy.l7.rules import RuleBook, Rules
from portway_proxy.live import Live
from portway_proxy.metrics import Counters
from portway_proxy.routing import NameTable, RouteTable
from portway_proxy.snapshot import Origin, PathMatch, Policy, Route, Snapshot
from portway_proxy.tls_terms import TlsTerms
from portway_proxy.upstreams import Surroundings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from portway_proxy.endpoint_states import EndpointRow
    from portway_proxy.errors import ClientError
    from portway_proxy.explain.question import Question
    from portway_proxy.l7.buffering import Gathering
    from portway_proxy.l7.request import RequestHead
    from portway_proxy.l7.response import ResponseHead
    from portway_proxy.settings import ProxySettings
    from portway_proxy.shown import Shown
    from portway_proxy.snapshot import Credentials

__all__ = ["Served"]

_NOWHERE: Final = Origin("", "", "")
_MADE: Final = b"..."  # In the place of what is another one for each request.


class Around(NamedTuple):
    """What is known beside the snapshot.

    `now` is seconds since the epoch, `rows` are the endpoints' states by the names of their upstreams, where they are
    known. `key` signs affinity cookies where the snapshot brings no key.
    """

    now: float
    rows: Mapping[str, tuple[EndpointRow, ...]]
    key: bytes = b""


class Served:
    """What is served, as far as requests for a few hosts go.

    Making it costs a look at each host and upstream of the snapshot, and nothing for each of its routes.
    """

    def __init__(self, snapshot: Snapshot, hosts: Iterable[str], settings: ProxySettings, around: Around) -> None:
        self.snapshot = snapshot
        self.settings = settings
        self.around = around
        wanted = {""}
        for host in hosts:
            wanted |= {host, "*." + host.partition(".")[2]}
        few = tuple(host for host in snapshot.hosts if host.name in wanted)
        self.table = RouteTable.build(msgspec.structs.replace(snapshot, hosts=few))
        self.upstreams = {upstream.name: upstream for upstream in snapshot.upstreams}
        self.trusted = Trusted(snapshot.trust, settings.limits)

    def rehearse(self, question: Question, door: Door, scenario: Scenario) -> Rehearsal:
        """Return how a request fares in a scenario."""
        found = Rehearsal()
        worker = _Worker(self, found, scenario)
        http = worker.http
        client = _Client(http, door, scenario, found)
        transport = Transport({"peername": (question.client, 0), "sockname": ("", door.port), "ssl_object": Side()})
        client.connection_made(transport)
        client.data_received(question.data)
        found.answer = bytes(transport.written)
        return found

    def relay(self, upstream: str, client: str) -> Arrival:
        """Return the endpoint that a connection of `client` passes through to; raises the reason why there is none."""
        around = Surroundings(zone=self.settings.zone)
        return _Upstreams(self, around, Rehearsal(), Scenario())[upstream].relay(client)


class _Worker:
    """What layer 7 asks of its worker; `http` are its shared parts."""

    def __init__(self, served: Served, found: Rehearsal, scenario: Scenario) -> None:
        still = Still(served.around.now)
        self.loop: Any = still
        self.clock: Any = still
        self.splicer: Any = None
        self.tasks: Any = None
        self.journal: Any = Journal(found)
        self.settings = served.settings
        self.counters = Counters()
        self.clients: set[Any] = set()
        self.draining = False
        snapshot = served.snapshot
        book = _Book(snapshot.credentials, scenario, found.trace)
        around = Surroundings(zone=served.settings.zone)
        upstreams = _Upstreams(served, around, found, scenario)
        names = NameTable()
        self.live = Live(0, "", snapshot, served.table, upstreams, around, book, names)
        self.http = http = Http(self)
        http.believe(served.trusted, request_ids=snapshot.request_ids)
        http.sign(signed=snapshot.signed)
        http.speak(snapshot.tls or TlsTerms())
        if snapshot.request_ids:
            http.request_id = lambda: _MADE
        http.hashing = cast("Any", AtOnce())


class _Client(ClientConnection):
    """The client: a connection that nobody made."""

    __slots__ = ("_certified", "_found", "_own")

    def __init__(self, http: Http, door: Door, scenario: Scenario, found: Rehearsal) -> None:
        super().__init__(http, tls=door.tls)
        self.authority = door.authority
        self._own = door.strict
        self._certified = scenario.certified
        self._found = found

    def identify(self) -> bool:
        """Take the connection for who it is, as it was shown what the door says."""
        done = super().identify()
        self.strict = self._own
        return done

    @property
    def shown(self) -> Shown:
        """The certificate that the client showed."""
        return cast("Shown", Good()) if self._certified else super().shown

    @property
    def request_read(self) -> bool:
        """Whether there is no body to send: none ever comes."""
        return False

    def send_body(self) -> None:
        """Do nothing: there is none."""

    def gather(self, gathering: Gathering) -> bool:  # noqa: ARG002 - an asker's signature
        """Return True: all of the body that there is is there."""
        return True

    def interim(self, head: RequestHead, response: ResponseHead) -> None:
        """Drop it: only the answer counts."""

    def keeps(self, head: RequestHead) -> bool:  # noqa: ARG002 - an asker's signature
        """Return True: what the client asks for next is not the question."""
        return True

    def abort(self) -> None:
        """Do nothing: there is no connection."""

    def _refuse(self, error: ClientError) -> None:
        self._found.refused = str(error)
        super()._refuse(error)


class _Book(RuleBook):
    """The rules of each policy that is asked for, made then, with steps that write down what they do."""

    __slots__ = ("_credentials", "_scenario", "_trace")

    def __init__(self, credentials: Iterable[Credentials], scenario: Scenario, trace: Trace) -> None:
        super().__init__()
        self._credentials = tuple(credentials)
        self._scenario = scenario
        self._trace = trace

    def of(self, policy: Policy) -> Rules:
        """Return the rules of a policy."""
        varied = self._scenario.vary(policy)
        route = Route("/", PathMatch.PREFIX, "", _NOWHERE, varied)
        rules = RuleBook().next((route,), self._credentials).of(varied)
        rules.plain = tuple(Watched(step, self._trace) for step in rules.plain)
        rules.secure = tuple(Watched(step, self._trace) for step in rules.secure)
        return rules


class _Absent(BadSnapshot, KeyError):
    """The snapshot refers to what it does not have: no proxy would serve it."""


class _Upstreams(Mapping[str, RehearsedUpstream]):
    """The upstreams that are asked for, made then."""

    def __init__(self, served: Served, around: Surroundings, found: Rehearsal, scenario: Scenario) -> None:
        self._served = served
        self._around = around
        self._found = found
        self._scenario = scenario
        self._made: dict[str, RehearsedUpstream] = {}

    def __getitem__(self, name: str) -> RehearsedUpstream:
        """Return an upstream; raises `_Absent` for one that the snapshot does not have."""
        if name not in self._made:
            upstream = self._served.upstreams.get(name)
            if upstream is None:
                raise _Absent(f"the snapshot has no upstream {name}")
            key = self._served.snapshot.affinity_key
            made = RehearsedUpstream(upstream, self._around, self._served.around.key if key is None else key.value)
            made.rehearse(self._found, self._scenario, self._served.around.rows.get(name, ()))
            self._made[name] = made
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._served.upstreams)

    def __len__(self) -> int:
        return len(self._served.upstreams)
