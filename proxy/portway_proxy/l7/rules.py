"""The policies of routes, compiled once when a snapshot begins to be served."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from portway_proxy.errors import BadSnapshot, Closed
from portway_proxy.l7.basic import AskPassword
from portway_proxy.l7.redirects import to_https
from portway_proxy.passwords import Verifier

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage, Step
    from portway_proxy.snapshot import Credentials, Policy, Route

__all__ = ["RuleBook", "Rules"]


class Rules:
    """A policy in service: what `plain` and `secure` (TLS) requests have to pass, in order, and the body's limit.

    The order is nginx's: answers that need no endpoint come first, then limits, then who may come here.
    """

    __slots__ = ("body_limit", "plain", "secure")

    def __init__(self, policy: Policy, verifiers: Mapping[str, Verifier]) -> None:
        self.body_limit = policy.body_size
        self.plain: tuple[Step, ...] = (_closed,)
        self.secure: tuple[Step, ...] = (_closed,)
        if policy.closed:
            return
        last = tuple(_access(policy, verifiers))
        redirect: tuple[Step, ...] = (to_https,) if policy.https_redirect else ()
        self.plain = (*redirect, *last)
        self.secure = last


def _access(policy: Policy, verifiers: Mapping[str, Verifier]) -> Iterator[Step]:
    """Yield the steps that say who may come here."""
    if policy.basic is not None:
        yield AskPassword(policy.basic.realm, verifiers[policy.basic.credentials])


class RuleBook:
    """The rules of all policies of a snapshot, each found by the policy's identity.

    The policy's own hash would be computed anew for each request. `verifiers` are kept from one book to the next for
    Secrets that stay the same, with what they remember.
    """

    __slots__ = ("_rules", "_verifiers")

    def __init__(self) -> None:
        self._verifiers: dict[str, Verifier] = {}
        self._rules: dict[int, Rules] = {}

    def of(self, policy: Policy) -> Rules:
        """Return the rules of a policy of the snapshot that the book was made for."""
        return self._rules[id(policy)]

    def next(self, routes: Iterable[Route], credentials: Iterable[Credentials]) -> RuleBook:
        """Return the book of another snapshot's routes; raises `BadSnapshot` for credentials that it does not have."""
        book = RuleBook()
        for one in credentials:
            known = self._verifiers.get(one.name)
            book._verifiers[one.name] = known if known and known.credentials == one else Verifier(one)
        made: dict[Policy, Rules] = {}
        for route in routes:
            policy = route.policy
            if policy is None:
                continue
            if policy.basic is not None and policy.basic.credentials not in book._verifiers:
                raise BadSnapshot(f"{route.origin} asks for credentials that the snapshot does not have")
            rules = made.get(policy)
            if rules is None:
                rules = made[policy] = Rules(policy, book._verifiers)
            book._rules[id(policy)] = rules
        return book


def _closed(exchange: Exchange, passage: Passage) -> bool:  # noqa: ARG001 - a step's signature
    raise Closed
