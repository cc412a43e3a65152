"""Which rules go on from one snapshot to the next, and what they remember."""

from __future__ import annotations

import msgspec
import pytest

from portway_proxy.errors import BadSnapshot
from portway_proxy.l7.rules import RuleBook
from portway_proxy.snapshot import BasicAuth, Credentials, ExternalAuth, Origin, PathMatch, Policy, RateLimit, Route

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0]")
USERS = Credentials("shop/users", (("ada", "$2y$05$hash"),))


def route(policy: Policy) -> Route:
    return Route("/", PathMatch.PREFIX, "shop/web:80", ORIGIN, policy)


def copied(policy: Policy) -> Policy:
    return msgspec.structs.replace(policy)


def test_the_rules_of_a_policy_that_is_the_same_object_go_on() -> None:
    policies = [Policy(rewrite="/x"), Policy(limit=RateLimit("shop/web", ((1.0, 5),))), Policy(closed="bad_allow_list")]
    first = RuleBook().next(map(route, policies), ())
    second = first.next(map(route, policies), ())
    assert all(second.of(policy) is first.of(policy) for policy in policies)
    third = second.next([route(copied(policies[0]))], ())
    with pytest.raises(KeyError):
        third.of(policies[1])


def test_routes_with_equal_policies_share_their_rules() -> None:
    one, other = Policy(rewrite="/x"), Policy(rewrite="/x")
    book = RuleBook().next(map(route, (one, other)), ())
    assert book.of(one) is book.of(other)


def test_what_a_limit_counted_goes_on_until_it_is_another() -> None:
    kept, changed = (Policy(limit=RateLimit("shop/web", ((1.0, 5),)), rewrite=path) for path in ("/a", "/b"))
    first = RuleBook().next([route(kept), route(changed)], ())
    # The same object, and with equal content: both count in what counted before.
    second = first.next([route(kept), route(copied(changed))], ())
    assert second.of(kept) is first.of(kept)
    assert second._kept.limits["shop/web"] is first._kept.limits["shop/web"]
    # Of two that disagree the first counts, and rules that counted by another are made anew.
    tighter = msgspec.structs.replace(changed, limit=RateLimit("shop/web", ((1.0, 1),)))
    third = second.next([route(tighter), route(kept)], ())
    assert third._kept.limits["shop/web"] is not second._kept.limits["shop/web"]
    assert third.of(kept) is not second.of(kept)


def test_passwords_that_changed_count_for_a_policy_that_did_not() -> None:
    policy = Policy(basic=BasicAuth(USERS.name, "Shop"))
    first = RuleBook().next([route(policy)], (USERS,))
    second = first.next([route(policy)], (USERS,))
    assert second._kept.verifiers[USERS.name] is first._kept.verifiers[USERS.name]
    third = second.next([route(policy)], (msgspec.structs.replace(USERS, users=()),))
    assert third._kept.verifiers[USERS.name] is not first._kept.verifiers[USERS.name]
    assert third.of(policy) is not second.of(policy)
    with pytest.raises(BadSnapshot, match="Ingress shop/web"):
        third.next([route(policy)], ())


def test_what_services_said_goes_on() -> None:
    policy = Policy(external=ExternalAuth("shop/auth:80", "/", "auth"))
    first = RuleBook().next([route(policy)], ())
    second = first.next([route(policy)], ())
    assert second._kept.verdicts == first._kept.verdicts


def test_a_book_knows_whether_a_route_is_unlogged_though_its_rules_were_made_before() -> None:
    policy = Policy(unlogged=True)
    first = RuleBook().next([route(policy)], ())
    assert first.next([route(policy)], ()).quiet
    assert not first.next([], ()).quiet
