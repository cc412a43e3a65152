"""`summary.py`: what differs, in words."""

from __future__ import annotations

import msgspec
import pytest

from portway_proxy.deltas import diff
from portway_proxy.snapshot import Certificate, Endpoint, Host, Origin, PathMatch, Problem, Route, Snapshot, Upstream
from portway_proxy.summary import changes, endpoints_of, summary

ORIGIN = Origin("Ingress", "shop", "web")


def route(path: str, upstream: str = "shop/web:80") -> Route:
    return Route(path, PathMatch.PREFIX, upstream, ORIGIN)


HOSTS = (Host("a.example", (route("/"), route("/b", "shop/other:80"))), Host("b.example", (route("/"),)))
WEB = (Upstream("shop/other:80"), Upstream("shop/web:80"))
SNAPSHOT = Snapshot(HOSTS, upstreams=WEB)
MORE = Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 1),))
PROBLEM = Problem(ORIGIN, "expired", "It is old.", "It is served.", "Renew it.")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (SNAPSHOT, "nothing that shows"),
        (msgspec.structs.replace(SNAPSHOT, hosts=HOSTS[:1]), "1 route gone"),
        (
            msgspec.structs.replace(SNAPSHOT, hosts=(*HOSTS, Host("c.example", (route("/"), route("/c"))))),
            "2 routes new",
        ),
        (msgspec.structs.replace(SNAPSHOT, upstreams=(WEB[0], MORE)), "2 routes changed"),
        (
            msgspec.structs.replace(
                SNAPSHOT, certificates=(Certificate("shop/tls", (), b"", b"", 0),), problems=(PROBLEM,)
            ),
            "1 certificate new, 1 problem new",
        ),
        (msgspec.structs.replace(SNAPSHOT, default=route("/")), "1 route new"),
        (msgspec.structs.replace(SNAPSHOT, request_ids=False), "nothing that shows"),
    ],
)
def test_what_leads_back_tells_the_same_as_a_look_at_everything(after: Snapshot, words: str) -> None:
    assert changes(SNAPSHOT, after) == words
    assert summary(diff(after, SNAPSHOT, "b", "a"), SNAPSHOT, after) == words


def test_upstreams_are_named_in_order_and_more_than_three_counted() -> None:
    names = ["d/d:1", "a/a:1", "c/c:1", "b/b:1", "e/e:1"]
    assert endpoints_of(names[:2]) == "endpoints of a/a:1, d/d:1"
    assert endpoints_of(names) == "endpoints of a/a:1, b/b:1, c/c:1 and 2 more"
    assert endpoints_of([]) == "endpoints of nothing that is served"
