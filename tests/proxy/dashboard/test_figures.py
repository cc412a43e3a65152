from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portway_proxy.dashboard.feed import UnwellRow
from portway_proxy.dashboard.figures import Depth, Gathered, Moved, percentile
from portway_proxy.metrics import LATENCY_BOUNDS
from portway_proxy.traffic import Labels

SHOP, CART = Labels("shop.example", "shop", "web", "web", "/"), Labels("shop.example", "shop", "web", "web", "/cart")
LAST = len(LATENCY_BOUNDS)


@pytest.mark.parametrize(
    ("counts", "share", "milliseconds"),
    [
        ([(0, 1)], 0.5, 0.5),  # Between 0 and 1 ms: in the middle.
        ([(0, 100)], 0.99, 0.99),
        ([(1, 2)], 0.5, 1.75),  # Between 1 and 2.5 ms.
        ([(0, 1), (6, 1)], 0.5, 1.0),  # The first of two is the half.
        ([(0, 1), (6, 1)], 0.95, 95.0),  # Between 50 and 100 ms.
        ([(0, 99), (LAST, 1)], 0.99, 1.0),
        ([(LAST, 7)], 0.5, 60_000.0),  # Beyond the last bound nothing is known but that.
    ],
)
def test_percentiles_are_interpolated_between_the_bounds(
    counts: list[tuple[int, int]], share: float, milliseconds: float
) -> None:
    assert percentile(counts, share) == pytest.approx(milliseconds)


@given(st.lists(st.floats(0, 59.9), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_lies_within_the_bounds_that_the_true_one_lies_in(times: list[float], share: float) -> None:
    places = sorted(next(place for place, bound in enumerate(LATENCY_BOUNDS) if time <= bound) for time in times)
    counts = [(place, places.count(place)) for place in sorted(set(places))]
    true = sorted(times)[max(0, -int(-share * len(times) // 1) - 1)]
    place = next(place for place, bound in enumerate(LATENCY_BOUNDS) if true <= bound)
    low = LATENCY_BOUNDS[place - 1] if place else 0.0
    assert low * 1000 - 0.01 <= percentile(counts, share) <= LATENCY_BOUNDS[place] * 1000 + 0.01


def test_a_figure_is_a_rate_shares_and_percentiles() -> None:
    figure = Moved(SHOP, 40, 10, 4, {0: 30, 3: 10}).figure(2.0)
    assert (figure.requests, figure.failed, figure.refused) == (20.0, 0.25, 0.1)
    assert [figure.p50, figure.p95, figure.p99] == pytest.approx([0.67, 9.0, 9.8])


def test_a_figure_of_nothing_has_no_percentiles() -> None:
    assert msgspec.json.encode(Moved(SHOP).figure(1.0)) == b"[0.0,0.0,0.0,null,null,null]"


def test_what_several_workers_gathered_is_added_up_route_by_route() -> None:
    one = Gathered(1.0, Moved(Labels(), 3, 1, 0, {0: 3}), 2.0, [Moved(SHOP, 3, 1, 0, {0: 3})], 10, 20, 1, 2, [], 0.1)
    two = Gathered(
        1.5,
        Moved(Labels(), 2, 0, 1, {0: 1, 4: 1}),
        2.5,
        [Moved(CART, 1, 0, 0, {0: 1}), Moved(SHOP, 1, 0, 1, {4: 1})],
        1,
        2,
        3,
        4,
        [UnwellRow("shop/web:80", 1, 0)],
        0.2,
    )
    both = Gathered.unpack([msgspec.msgpack.encode(one), msgspec.msgpack.encode(two)])
    assert both.total == Moved(Labels(), 5, 1, 1, {0: 4, 4: 1})
    assert sorted(both.moved, key=lambda moved: moved.labels) == [
        Moved(SHOP, 4, 1, 1, {0: 3, 4: 1}),
        Moved(CART, 1, 0, 0, {0: 1}),
    ]
    assert (both.seconds, both.over, both.received, both.sent, both.connections, both.flows) == (1.5, 2.5, 11, 22, 4, 6)
    assert both.unwell == [UnwellRow("shop/web:80", 1, 0)]
    assert both.cost >= 0.3


def test_nobody_who_answers_is_nothing() -> None:
    assert Gathered.unpack([]).seconds == 0.0


def gathered(seconds: float, over: float, requests: int) -> Gathered:
    """Return what was gathered of one route, so many requests in each of `over` seconds."""
    moved = [Moved(SHOP, int(requests * over), 0, 0, {2: int(requests * over)})] if over else []
    total = Moved(Labels(), int(requests * seconds), 0, 0, {2: int(requests * seconds)})
    return Gathered(seconds, total, over, moved, int(10 * seconds), 0, int(seconds))


def test_what_was_gathered_one_after_the_other_is_one_with_the_state_of_the_last() -> None:
    found = gathered(2.0, 2.0, 10).then(gathered(3.0, 0.0, 10)).then(gathered(1.0, 4.0, 5))
    assert (found.seconds, found.total.requests, found.over, found.received) == (6.0, 55, 6.0, 60)
    assert found.moved == [Moved(SHOP, 40, 0, 0, {2: 40})]
    assert found.connections == 1
    assert Gathered().then(found) is found


def test_who_asks_for_totals_is_told_of_routes_later() -> None:
    whole = gathered(2.0, 2.0, 10)
    told, left = whole.split(Depth.TOTALS)
    assert (told.total, told.over, told.moved) == (whole.total, 0.0, [])
    later, nothing = left.then(gathered(1.0, 0.0, 10)).split(Depth.ROWS)
    assert (later.seconds, later.total.requests, later.over, later.moved) == (1.0, 10, 2.0, whole.moved)
    assert nothing == Gathered()


def test_who_counted_for_longer_counts_as_much_as_others() -> None:
    found = gathered(4.0, 8.0, 10).paced(2.0, 2.0)
    assert (found.total.figure(found.seconds).requests, found.moved[0].figure(found.over).requests) == (10.0, 10.0)
    assert found.received == 20
    same = gathered(2.0, 2.0, 10)
    assert same.paced(2.1, 2.1).moved == same.moved


@pytest.mark.parametrize(
    "report",
    [
        Gathered(),
        Gathered(1.0, received=-1),
        Gathered(1.0, over=-1.0),
        Gathered(1.0, Moved(Labels(), 1, 0, 0, {})),
        Gathered(1.0, Moved(Labels(), 1, 1, 1, {0: 1})),
        Gathered(1.0, Moved(Labels(), 0, -1, 0, {})),
        Gathered(1.0, moved=[Moved(SHOP, 1, 0, 0, {LAST + 1: 1})]),
        Gathered(1.0, moved=[Moved(SHOP, 1, 0, 0, {-1: 1})]),
        Gathered(1.0, moved=[Moved(SHOP, 0, 0, 0, {0: 1, 1: -1})]),
    ],
)
def test_what_no_proxy_can_have_counted_is_not_plausible(report: Gathered) -> None:
    assert not report.plausible
    assert gathered(2.0, 2.0, 10).plausible
    assert Gathered(1.0).plausible
