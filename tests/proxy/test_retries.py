from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.retries import Budget, RetryRules, rules
from portway_proxy.snapshot import Retries


def spend(budget: Budget, requests: int, now: float, most: int = 10_000) -> int:
    """Take as many retries as there are, and return how many."""
    count = 0
    while count < most and budget.take(requests, now):
        count += 1
    return count


def test_two_seconds_of_the_free_rate_are_there_from_the_beginning() -> None:
    assert spend(Budget(0.2, 10.0, 0, 0.0), 0, 0.0) == 20


def test_time_and_requests_fill_it() -> None:
    budget = Budget(0.2, 10.0, 0, 0.0)
    spend(budget, 0, 0.0)
    assert spend(budget, 0, 1.0) == 10
    assert spend(budget, 100, 1.0) == 20
    assert spend(budget, 200, 2.0) == 30


def test_what_is_not_spent_within_two_seconds_is_lost() -> None:
    budget = Budget(0.2, 10.0, 0, 0.0)
    assert spend(budget, 0, 3600.0) == 20
    # 1,000 requests a second for an hour: what two seconds of that bring.
    assert spend(budget, 3_600_000, 7200.0) == 420


def test_requests_before_the_first_retry_are_not_paid_for() -> None:
    assert spend(Budget(0.2, 10.0, 1_000_000, 0.0), 1_000_000, 0.0) == 20


def test_upstreams_with_equal_policies_share_their_rules() -> None:
    assert rules(Retries(tries=2)) is rules(Retries(tries=2))
    assert rules(None).tries == Retries().tries


def test_workers_share_the_free_rate() -> None:
    assert spend(RetryRules(Retries()).budget(4, 0, 0.0), 0, 0.0) == 5


def test_a_budget_of_nothing_leaves_the_free_rate() -> None:
    budget = RetryRules(Retries(budget=0)).budget(1, 0, 0.0)
    assert spend(budget, 100_000, 1.0) == 20


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 3), st.integers(0, 300)), max_size=40))
def test_never_more_than_the_share_and_the_rate(steps: list[tuple[int, int, int]]) -> None:
    budget = Budget(0.2, 10.0, 0, 0.0)
    requests, now, taken = 0, 0.0, 0
    for more, seconds, wanted in steps:
        requests += more
        now += seconds
        taken += spend(budget, requests, now, wanted)
        assert taken <= 0.2 * requests + 10.0 * now + 20.0 + 1e-6


@pytest.mark.parametrize(
    ("method", "bodiless", "repeatable"),
    [
        (b"GET", True, True),
        (b"HEAD", True, True),
        (b"OPTIONS", True, True),
        (b"TRACE", True, True),
        (b"GET", False, False),
        (b"POST", True, False),
        (b"PUT", True, False),
        (b"DELETE", True, False),
        (b"get", True, False),
    ],
)
def test_only_what_changes_nothing_and_has_no_body_may_be_repeated(
    method: bytes, bodiless: bool, repeatable: bool
) -> None:
    assert RetryRules(Retries()).repeatable(method, bodiless=bodiless) is repeatable


def test_a_service_may_name_other_methods() -> None:
    rules = RetryRules(Retries(methods=("DELETE", "PUT")))
    assert rules.repeatable(b"DELETE", bodiless=True)
    assert not rules.repeatable(b"DELETE", bodiless=False)
    assert not rules.repeatable(b"GET", bodiless=True)


def test_what_is_no_error_is_never_repeated() -> None:
    assert RetryRules(Retries(statuses=(200, 302, 399, 400, 503))).statuses == {400, 503}
