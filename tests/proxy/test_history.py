"""`history.py`: what is remembered of each generation, for how long, and in how few bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given

from portway_proxy import deltas
from portway_proxy.codec import digest
from portway_proxy.history import MOST, Action, Cause, Generation, History, NotKept, Step
from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import (
    Certificate,
    Endpoint,
    Host,
    Origin,
    PathMatch,
    Problem,
    Route,
    Snapshot,
    Source,
    Sources,
    Upstream,
    UpstreamPolicy,
)
from snapshots import FULL, HASH, KEY, histories

ORIGIN = Origin("Ingress", "shop", "web", "spec.rules[0].http.paths[0]")
NOON = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
REDACTION = Redaction(b"a key")
ALICE = Cause("Ingress", "shop", "web", Action.CHANGED, "alice", NOON)


def slice_cause(name: str = "web-1", seconds: int = 0) -> Cause:
    at = NOON + timedelta(seconds=seconds)
    return Cause("EndpointSlice", "shop", name, Action.CHANGED, "endpointslice-controller", at)


def served(path: str = "/", *addresses: str, upstream: str = "shop/web:80") -> Snapshot:
    endpoints = tuple(Endpoint(address, 8080) for address in addresses)
    none = Problem(Origin("Service", "shop", "web"), "no_endpoints", "None is ready.", "503.", "Start one.")
    return Snapshot(
        hosts=(Host("shop.example", (Route(path, PathMatch.PREFIX, upstream, ORIGIN),)),),
        upstreams=(Upstream(upstream, endpoints=endpoints, reason="" if endpoints else "no_endpoints"),),
        problems=() if endpoints else (none,),
    )


class Kept:
    """A history, and what it was told."""

    def __init__(self, most: int = MOST, room: int = 1 << 20) -> None:
        self.history = History(REDACTION, most, room)
        self.served: list[Snapshot] = []
        self.number = 0

    def serve(self, snapshot: Snapshot, *causes: Cause, narrow: bool = False) -> None:
        before = self.served[-1] if self.served else Snapshot()
        self.served.append(snapshot)
        self.number += 1
        base = digest(before)
        delta = deltas.Delta(base, digest(snapshot), snapshot.upstreams) if narrow else None
        self.history.add(Step(self.number, snapshot, digest(snapshot), delta, causes), NOON, 0.25)
        self.history.settle()

    def rows(self) -> list[tuple[str, str]]:
        return [(row.number, row.summary) for row in self.history.rows()]

    def row(self) -> Generation:
        return self.history.rows()[0]

    def shows(self, generation: int) -> Snapshot:
        return self.history.find(generation)[1]


def test_the_newest_is_first_and_says_what_changed() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    kept.serve(served("/shop", "10.0.0.1"), ALICE)
    assert kept.rows() == [("2", "1 route new, 1 route gone"), ("1", "the first: 1 route")]
    row = kept.row()
    assert (row.causes, row.more, row.digest, row.took) == ((ALICE,), 0, digest(served("/shop", "10.0.0.1")), 0.25)


def test_a_cause_is_told_in_a_line() -> None:
    assert str(ALICE) == "Ingress shop/web changed by alice at 2026-01-31 12:00:00 UTC"
    gone = msgspec.structs.replace(ALICE, action=Action.DELETED, manager="", place="shop.yaml:7")
    assert str(gone) == "Ingress shop/web deleted at 2026-01-31 12:00:00 UTC (shop.yaml:7)"
    everywhere = msgspec.structs.replace(ALICE, kind="IngressClass", namespace="", name="portway")
    assert str(everywhere).startswith("IngressClass portway changed by alice")


def test_every_generation_that_is_kept_shows_what_it_served() -> None:
    kept = Kept()
    for number in range(30):
        kept.serve(served(f"/{number}", "10.0.0.1", upstream=f"shop/web:{80 + number % 3}"), ALICE)
    assert [kept.shows(number) for number in range(1, 31)] == kept.served


@given(histories())
def test_whatever_was_served_is_shown_again_but_for_its_secrets(found: list[Snapshot]) -> None:
    kept = Kept()
    for snapshot in found:
        kept.serve(snapshot, ALICE)
    assert [kept.shows(number + 1) for number in range(len(found))] == [REDACTION.snapshot(one) for one in found]


def test_no_secret_is_kept_and_another_one_shows() -> None:
    kept = Kept()
    kept.serve(FULL)
    kept.serve(Snapshot(), ALICE)
    other = tuple(msgspec.structs.replace(one, key=b"another") for one in FULL.certificates)
    kept.serve(msgspec.structs.replace(FULL, certificates=other), ALICE)
    kept.serve(Snapshot(), ALICE)
    first, last = kept.shows(1), kept.shows(3)
    assert first.certificates != last.certificates
    assert msgspec.structs.replace(last, certificates=first.certificates) == first
    said = msgspec.json.encode([first, last])
    assert KEY.split(b"\n")[1] not in said
    assert HASH.encode() not in said


def test_only_so_many_are_remembered() -> None:
    kept = Kept(most=3)
    for number in range(5):
        kept.serve(served(f"/{number}", "10.0.0.1"), ALICE)
    assert [number for number, _ in kept.rows()] == ["5", "4", "3"]
    assert kept.shows(3) == kept.served[2]
    with pytest.raises(NotKept, match="Generation 2 is not kept: 3 to 5 are"):
        kept.shows(2)


def test_nothing_is_shown_before_anything_was_served() -> None:
    with pytest.raises(NotKept, match="Generation 1 is not kept: none is"):
        Kept().shows(1)


def test_a_storm_of_endpoints_is_one_row_and_pushes_nothing_out() -> None:
    kept = Kept(most=3)
    kept.serve(served("/", "10.0.0.1"))
    kept.serve(served("/shop", "10.0.0.1"), ALICE)
    for number in range(200):
        kept.serve(served("/shop", f"10.0.1.{number}"), slice_cause(seconds=number), narrow=True)
    kept.serve(served("/new", "10.0.1.199"), ALICE)
    assert kept.rows() == [
        ("203", "1 route new, 1 route gone"),
        ("3-202", "endpoints of shop/web:80"),
        ("2", "1 route new, 1 route gone"),
        ("1", "the first: 1 route"),
    ]
    run = kept.history.rows()[1]
    assert (run.endpoints, run.causes, run.more) == (True, (slice_cause(seconds=199),), 0)
    assert [kept.shows(number) for number in (1, 2, 202, 203)] == [
        kept.served[number - 1] for number in (1, 2, 202, 203)
    ]
    with pytest.raises(NotKept, match=r"one of the changes of endpoints 3-202, .* ask for 202"):
        kept.shows(100)


def test_endpoints_that_all_go_and_come_back_are_still_a_storm() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    for addresses in ((), ("10.0.0.2",), ()):
        kept.serve(served("/", *addresses), slice_cause())
    assert [number for number, _ in kept.rows()] == ["2-4", "1"]


def test_what_a_proxy_hears_of_endpoints_alone_is_a_storm_too() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    kept.serve(served("/", "10.0.0.2"), narrow=True)
    kept.serve(served("/"))
    assert [number for number, _ in kept.rows()] == ["2-3", "1"]


def test_endpoints_that_a_person_changed_have_a_row_of_their_own() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    service = msgspec.structs.replace(ALICE, kind="Service")
    kept.serve(served("/", "10.0.0.2"), service, slice_cause(), narrow=True)
    assert kept.rows() == [("2", "1 route changed"), ("1", "the first: 1 route")]


@pytest.mark.parametrize(
    "after",
    [
        msgspec.structs.replace(served("/", "10.0.0.1"), problems=(Problem(ORIGIN, "expired", "Old.", "", ""),)),
        msgspec.structs.replace(
            served("/", "10.0.0.1"),
            upstreams=(
                Upstream("shop/web:80", endpoints=(Endpoint("10.0.0.1", 8080),), policy=UpstreamPolicy(slow_start=3)),
            ),
        ),
        msgspec.structs.replace(served("/", "10.0.0.1"), certificates=(Certificate("shop/tls", (), b"", b"", 0),)),
        msgspec.structs.replace(served("/", "10.0.0.1"), request_ids=False),
    ],
)
def test_a_slice_that_changes_more_than_endpoints_has_a_row_of_its_own(after: Snapshot) -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    kept.serve(after, slice_cause())
    assert not kept.row().endpoints


def test_of_many_causes_the_first_are_told_and_the_others_counted() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    many = [msgspec.structs.replace(ALICE, name=f"web-{number}") for number in range(100)]
    kept.serve(served("/shop", "10.0.0.1"), *many)
    assert (kept.row().causes, kept.row().more) == (tuple(many[:20]), 80)


def test_in_a_storm_the_last_change_of_the_last_objects_is_told() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    for number in range(60):
        kept.serve(served("/", f"10.0.1.{number}"), slice_cause(f"web-{number % 30}", number), narrow=True)
    assert kept.row().causes == tuple(slice_cause(f"web-{number % 30}", number) for number in range(40, 60))
    assert kept.row().more > 0


def test_a_storm_goes_on_though_what_led_back_from_it_was_too_much_to_keep() -> None:
    kept = Kept(room=300)
    kept.serve(served("/", "10.0.0.1"))
    for number in range(4):
        upstreams = tuple(
            Upstream(f"shop/{index:05}:80", endpoints=(Endpoint(f"10.{number}.{index // 250}.{index % 250}", 80),))
            for index in range(1500)
        )
        kept.serve(msgspec.structs.replace(served("/", "10.0.0.1"), upstreams=upstreams), slice_cause())
    assert [(row.number, row.kept) for row in kept.history.rows()] == [("3-5", True), ("2", False), ("1", False)]
    assert kept.shows(5) == kept.served[4]
    assert kept.history.size == 0


def test_where_values_came_from_is_a_row_though_the_digest_stays() -> None:
    kept = Kept()
    kept.serve(served("/", "10.0.0.1"))
    sources = (Sources("Ingress shop/web", (Source("body_size", ("annotation portway.dev/body-size",)),)),)
    kept.serve(msgspec.structs.replace(served("/", "10.0.0.1"), sources=sources), ALICE)
    assert kept.rows()[0] == ("2", "where values came from")
    assert [kept.shows(number).sources for number in (1, 2)] == [(), sources]


def test_the_oldest_content_goes_when_there_is_no_room_and_its_row_stays() -> None:
    kept = Kept(room=2000)
    for number in range(20):
        names = [f"{number}-{index}.shop.example" for index in range(50)]
        routes = (Route("/", PathMatch.PREFIX, "shop/web:80", ORIGIN),)
        kept.serve(
            msgspec.structs.replace(served("/", "10.0.0.1"), hosts=tuple(Host(one, routes) for one in sorted(names)))
        )
    rows = kept.history.rows()
    assert len(rows) == 20
    fitting = [row.generation for row in rows if row.kept]
    assert 1 < len(fitting) < 20
    assert fitting == list(range(20, 20 - len(fitting), -1))
    assert kept.history.size <= 2000
    assert kept.shows(fitting[-1]) == kept.served[fitting[-1] - 1]
    with pytest.raises(NotKept, match="Generation 1 is not kept"):
        kept.shows(1)


def test_fifty_changes_of_single_routes_among_thousands_take_kilobytes() -> None:
    def host(number: int, path: str) -> Host:
        return Host(f"{number:04}.example", (Route(path, PathMatch.PREFIX, "shop/web:80", ORIGIN),))

    kept = Kept()
    hosts = [host(number, "/") for number in range(2000)]
    for number in range(50):
        hosts[number] = host(number, "/new")
        kept.serve(msgspec.structs.replace(served("/", "10.0.0.1"), hosts=tuple(hosts)), ALICE)
    assert all(row.kept for row in kept.history.rows())
    assert kept.history.size < 10_000
    assert kept.shows(1) == kept.served[0]
