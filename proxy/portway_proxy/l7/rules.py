"""The policies of routes, compiled once when a snapshot begins to be served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from portway_proxy.errors import BadSnapshot, Closed
from portway_proxy.l7.basic import AskPassword
from portway_proxy.l7.blocking import BlockClients
from portway_proxy.l7.buffering import GatherBody, WidenBuffer
from portway_proxy.l7.canary import ChooseUpstream
from portway_proxy.l7.certified import AskCertificate
from portway_proxy.l7.cors import AnswerOrigins
from portway_proxy.l7.edits import EditAnswer
from portway_proxy.l7.external import AskService
from portway_proxy.l7.limits import Limit
from portway_proxy.l7.mirror import SendCopy
from portway_proxy.l7.pace import SetPace
from portway_proxy.l7.pages import Pages
from portway_proxy.l7.passage import Passage
from portway_proxy.l7.redirects import ToAppRoot, ToOther, ToWww, to_https
from portway_proxy.l7.rewriting import AddFields, Rewrite, SetTimeouts, SpeakOld
from portway_proxy.l7.sources import EitherSuffices, FromNetworks
from portway_proxy.l7.verdicts import Verdicts
from portway_proxy.passwords import Verifier

if TYPE_CHECKING:
    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Step
    from portway_proxy.snapshot import Credentials, ExternalAuth, Policy, Route

__all__ = ["RuleBook", "Rules"]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What goes on from one snapshot to the next.

    Verified passwords by Secret, counts by the zone of a limit, and what services said.
    """

    verifiers: dict[str, Verifier] = field(default_factory=dict)
    limits: dict[str, Limit] = field(default_factory=dict)
    verdicts: dict[ExternalAuth, Verdicts] = field(default_factory=dict)


class Rules:
    """A policy in service: what `plain` and `secure` (TLS) requests have to pass, in order, and the body's limit.

    `pages` are those for errors, if somebody makes any.

    The order is nginx's: answers that need no endpoint come first, then limits, then who may come here.
    """

    __slots__ = ("body_limit", "pages", "plain", "secure")

    def __init__(self, policy: Policy, kept: _Kept) -> None:
        self.body_limit = policy.body_size
        self.plain: tuple[Step, ...] = (_closed,)
        self.secure: tuple[Step, ...] = (_closed,)
        self.pages = None if policy.errors is None or policy.closed else Pages(policy.errors)
        if policy.closed:
            return
        first, last = tuple(_answers(policy)), (*_access(policy, kept), *_changes(policy))
        redirect: tuple[Step, ...] = (to_https,) if policy.https_redirect else ()
        ask = () if policy.certificate is None else (AskCertificate(policy.certificate),)
        self.plain = (*redirect, *ask, *first, *last) if ask else (*first, *redirect, *last)
        self.secure = (*ask, *first, *last)

    def passage(self, client: Asker) -> Passage | None:
        """Return the way of a request of `client`; None where it may go on at once."""
        steps = self.secure if client.secure else self.plain
        return Passage(steps, self.pages) if steps or self.pages is not None else None


def _answers(policy: Policy) -> Iterator[Step]:
    """Yield the steps that answer in the place of the endpoint."""
    if policy.blocked is not None:
        yield BlockClients(policy.blocked)
    if policy.www:
        yield ToWww(policy.www)
    if policy.cors is not None:
        yield AnswerOrigins(policy.cors)
    if policy.app_root:
        yield ToAppRoot(policy.app_root, relative=policy.relative)
    if policy.redirect is not None:
        yield ToOther(policy.redirect.status, policy.redirect.location)


def _access(policy: Policy, kept: _Kept) -> Iterator[Step]:
    """Yield the steps that say how much a client may ask for, and who may come here."""
    if policy.limit is not None:
        yield kept.limits[policy.limit.zone]
    networks = FromNetworks(policy.allow, policy.deny) if policy.allow or policy.deny else None
    if policy.any_suffices:
        yield from _either(policy, kept, networks)
        return
    if networks is not None:
        yield networks
    if policy.basic is not None:
        yield AskPassword(policy.basic.realm, kept.verifiers[policy.basic.credentials])
    if policy.external is not None:
        yield AskService(policy.external, kept.verdicts[policy.external])


def _either(policy: Policy, kept: _Kept, networks: FromNetworks | None) -> Iterator[Step]:
    """Yield the step that asks for one of network, password and the word of a service: in this order."""
    asks: Step | None = None
    if policy.external is not None:
        asks = AskService(policy.external, kept.verdicts[policy.external])
    if policy.basic is not None:
        asks = AskPassword(policy.basic.realm, kept.verifiers[policy.basic.credentials], asks)
    if networks is not None and asks is not None:
        yield EitherSuffices(networks, asks)
        return
    one = networks or asks
    if one is not None:
        yield one


def _changes(policy: Policy) -> Iterator[Step]:
    """Yield the steps that change where a request goes, and what the endpoint and the client get."""
    if policy.mirror is not None:
        yield SendCopy(policy.mirror)
    if policy.canary is not None:
        yield ChooseUpstream(policy.canary)
    if policy.rewrite:
        yield Rewrite(policy.rewrite)
    if policy.patience is not None:
        yield SetTimeouts(policy.patience)
    if policy.edits is not None:
        yield EditAnswer(policy.edits)
    fields = AddFields(policy)
    if not fields.idle:
        yield fields
    yield from _bytes(policy)


def _bytes(policy: Policy) -> Iterator[Step]:
    """Yield the steps that change how bodies pass."""
    if policy.rate is not None:
        yield SetPace(policy.rate)
    if policy.old_http:
        yield SpeakOld()
    buffering = policy.buffering
    if buffering is not None and buffering.response:
        yield WidenBuffer(buffering.response)
    # Last of all: what it holds goes on as it is.
    if buffering is not None and buffering.request:
        yield GatherBody(buffering.request)


class RuleBook:
    """The rules of all policies of a snapshot, each found by the policy's identity.

    The policy's own hash would be computed anew for each request. What Secrets and limits remember goes on in the next
    book, as long as they stay the same. It is `quiet` when requests of some route leave no access lines, `traced` when
    some route says how it is.
    """

    __slots__ = ("_kept", "_rules", "quiet", "traced")

    def __init__(self) -> None:
        self.quiet = False
        self.traced = False
        self._kept = _Kept()
        self._rules: dict[int, Rules] = {}

    def of(self, policy: Policy) -> Rules:
        """Return the rules of a policy of the snapshot that the book was made for."""
        return self._rules[id(policy)]

    def next(self, routes: Iterable[Route], credentials: Iterable[Credentials]) -> RuleBook:
        """Return the book of another snapshot's routes; raises `BadSnapshot` for what cannot be served.

        The snapshot that this book was made for still has to exist: policies are known by their identity.
        """
        book = RuleBook()
        for one in credentials:
            known = self._kept.verifiers.get(one.name)
            book._kept.verifiers[one.name] = known if known and known.credentials == one else Verifier(one)
        made: dict[Policy, Rules] = {}
        for route in routes:
            policy = route.policy
            if policy is None:
                continue
            book.quiet = book.quiet or policy.unlogged
            book.traced = book.traced or policy.tracing is not None
            rules = self._standing(policy, book) or made.get(policy)
            if rules is None:
                try:
                    self._keep_limit(policy, book)
                    self._keep_verdicts(policy, book)
                    rules = made[policy] = Rules(policy, book._kept)
                except (KeyError, ValueError) as error:
                    raise BadSnapshot(f"{route.origin} has a policy that cannot be served: {error}") from None
            book._rules[id(policy)] = rules
        return book

    def _standing(self, policy: Policy, book: RuleBook) -> Rules | None:
        """Return the rules of a policy that is the same object as before, where what they remember goes on.

        Passwords and services are told apart by their content alone.
        """
        rules = self._rules.get(id(policy))
        if rules is None or policy.basic is not None or policy.external is not None:
            return None
        self._keep_limit(policy, book)
        zone = "" if policy.limit is None else policy.limit.zone
        return rules if self._kept.limits.get(zone) is book._kept.limits.get(zone) else None

    def _keep_limit(self, policy: Policy, book: RuleBook) -> None:
        asked = policy.limit
        if asked is None or asked.zone in book._kept.limits:
            return
        known = self._kept.limits.get(asked.zone)
        book._kept.limits[asked.zone] = known if known and known.asked == asked else Limit(asked)

    def _keep_verdicts(self, policy: Policy, book: RuleBook) -> None:
        asked = policy.external
        if asked is not None and asked not in book._kept.verdicts:
            book._kept.verdicts[asked] = self._kept.verdicts.get(asked) or Verdicts(asked.durations)


def _closed(exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG001 - a step's signature
    raise Closed
