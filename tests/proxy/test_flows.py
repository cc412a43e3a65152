from __future__ import annotations

import msgspec
import pytest

from portway_proxy.flows import Flow, FlowPage, FlowQuery, describe_page

DB = Flow("tcp/5432", "192.0.2.1:4711", "shop/db:5432/tcp", "10.0.0.1:5432", 90.0, 7, 9)
SIX = Flow("tcp/5432", "[2001:db8::1]:4711", "shop/db:5432/tcp", "[fd00::1]:5432", 10.0, 1, 2)
DNS = Flow("udp/53", "192.0.2.1:53000", "net/dns:53/udp", "", 3.0, 0, 0)
ALL = (DB, SIX, DNS)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (FlowQuery(), ALL),
        (FlowQuery(client="192.0.2.1"), (DB, DNS)),
        (FlowQuery(client="192.0.2.1:4711"), (DB,)),
        (FlowQuery(client="2001:db8::1"), (SIX,)),
        (FlowQuery(client="[2001:db8::1]:4711"), (SIX,)),
        (FlowQuery(client="192.0.2"), ()),
        (FlowQuery(listener="5432"), (DB, SIX)),
        (FlowQuery(listener="udp/53"), (DNS,)),
        (FlowQuery(listener="tcp/53"), ()),
        (FlowQuery(service="shop/db"), (DB, SIX)),
        (FlowQuery(service="shop/db:5432"), (DB, SIX)),
        (FlowQuery(service="shop/db:5432/tcp"), (DB, SIX)),
        (FlowQuery(service="shop/d"), ()),
        (FlowQuery(endpoint="10.0.0.1"), (DB,)),
        (FlowQuery(endpoint="fd00::1"), (SIX,)),
        (FlowQuery(client="192.0.2.1", service="net/dns"), (DNS,)),
    ],
)
def test_a_query_finds_what_matches_all_that_it_says(query: FlowQuery, found: tuple[Flow, ...]) -> None:
    assert FlowPage.of(ALL, query) == FlowPage(found)


def test_a_page_holds_the_oldest_and_counts_the_rest() -> None:
    assert FlowPage.of(ALL, FlowQuery(limit=1)) == FlowPage((DB,), 2)
    assert FlowPage.of(ALL, FlowQuery(limit=0)) == FlowPage((), 3)


def test_pages_of_workers_become_one_page_that_is_bounded_too() -> None:
    pages = [FlowPage.of([SIX], FlowQuery(limit=2)), FlowPage((DNS, DB), 5)]
    assert FlowPage.join(pages, 2) == FlowPage((DB, SIX), 6)
    assert FlowPage.join([], 2) == FlowPage()


def test_a_page_is_a_line_for_each_flow_and_one_for_the_rest() -> None:
    assert describe_page(FlowPage((DB, DNS), 6)).splitlines() == [
        "tcp/5432 192.0.2.1:4711 -> shop/db:5432/tcp 10.0.0.1:5432 90s in=7 out=9",
        "udp/53 192.0.2.1:53000 -> net/dns:53/udp - 3s in=0 out=0",
        "and 6 more",
    ]
    assert describe_page(FlowPage()) == ""


@pytest.mark.parametrize("asked", [{"limit": "-1"}, {"limit": "1001"}, {"limit": "x"}, {"color": "red"}])
def test_a_query_of_anything_else_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(asked, FlowQuery, strict=False)
