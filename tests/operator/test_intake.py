from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from fake_api import endpoint_slice, service
from portway_operator.decode.writers import NOBODY, Writer
from portway_operator.objects import Kind
from portway_operator.sources.intake import Change, Intake
from portway_operator.sources.listing import Item, Listing, read_item
from portway_operator.sources.resources import Target
from portway_operator.sources.stream import Deleted, Listed, Opened, Refused, Seen
from portway_operator.store import ObjectStore

SERVICES = Target(Kind.SERVICE)
SLICES = Target(Kind.ENDPOINT_SLICE)
NAMED = Target(Kind.SERVICE, "shop", "web")


class Taken:
    """An intake of two targets, and what it told."""

    def __init__(self, *targets: Target) -> None:
        self.store = ObjectStore()
        self.told: list[Change] = []
        self.intake = Intake(self.store, self.told.append)
        for target in targets or (SERVICES, SLICES):
            self.intake.add(target)

    def listed(self, *targets: Target, version: int = 100, items: tuple[Item, ...] = ()) -> None:
        for target in targets:
            self.intake.take(Listed(target, Listing(version, str(version), items), 0))


def item(name: str = "web", version: int | None = 101, port: int = 80) -> Item:
    raw = service(name, port=port)
    return replace(read_item(Kind.SERVICE, raw), version=version)


def test_nothing_is_told_until_every_target_was_listed() -> None:
    taken = Taken()
    taken.listed(SERVICES, items=(item("a", 50),))
    taken.intake.take(Seen(SERVICES, item("b")))
    assert not taken.intake.listed.is_set()
    assert taken.told == []
    taken.listed(SLICES)
    assert taken.intake.listed.is_set()
    taken.intake.take(Seen(SERVICES, item("c")))
    assert [change.name for change in taken.told] == ["c"]
    assert len(taken.store.services) == 3


def test_a_target_that_is_dropped_before_it_was_listed_is_not_waited_for() -> None:
    taken = Taken(SERVICES, NAMED)
    taken.listed(SERVICES)
    taken.intake.drop(NAMED)
    assert taken.intake.listed.is_set()


def test_messages_about_a_dropped_target_are_ignored() -> None:
    taken = Taken(SERVICES, NAMED)
    taken.intake.drop(NAMED)
    taken.intake.take(Seen(NAMED, item()))
    assert not taken.store.services


def test_an_object_of_two_targets_goes_when_the_last_of_them_lost_it() -> None:
    taken = Taken(SERVICES, NAMED)
    taken.listed(SERVICES, NAMED, items=(item(version=50),))
    taken.intake.take(Deleted(NAMED, item(version=120)))
    assert taken.store.services
    taken.intake.take(Deleted(SERVICES, item(version=120)))
    assert not taken.store.services
    assert [(change.name, change.after) for change in taken.told] == [("web", None)]


def test_versions_that_are_no_numbers_count_in_the_order_of_arrival() -> None:
    taken = Taken(SERVICES)
    taken.listed(SERVICES)
    for port in (81, 82):
        taken.intake.take(Seen(SERVICES, item(version=None, port=port)))
    assert taken.store.services["shop", "web"].ports[0].number == 82
    taken.intake.take(Deleted(SERVICES, item(version=None)))
    assert not taken.store.services


def test_an_outage_is_told_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    taken = Taken(SERVICES)
    taken.listed(SERVICES)
    for _ in range(3):
        taken.intake.take(Refused(SERVICES, "503", "503 no"))
    assert taken.intake.troubles() == ["Service: 503 no"]
    taken.intake.take(Opened(SERVICES))
    taken.intake.take(Opened(SERVICES))
    assert taken.intake.troubles() == []
    assert len(caplog.records) == 2
    assert taken.intake.counters.refusals == {("Service", "503"): 3}


def test_a_slice_of_no_service_is_kept_and_told() -> None:
    taken = Taken(SLICES)
    taken.listed(SLICES)
    raw = endpoint_slice("loose", "10.1.0.1")
    raw["metadata"]["labels"] = {}
    taken.intake.take(Seen(SLICES, replace(read_item(Kind.ENDPOINT_SLICE, raw), version=101)))
    assert [change.name for change in taken.told] == ["loose"]


def test_a_change_tells_who_wrote_it_and_a_first_list_and_its_end_that_nobody_did() -> None:
    taken = Taken(SERVICES)
    taken.listed(SERVICES)
    alice = Writer("alice", "2026-01-31T12:00:00Z")
    taken.intake.take(Seen(SERVICES, replace(item("a"), writers=(alice,))))
    taken.intake.add(NAMED)
    taken.listed(NAMED, items=(replace(item("web"), writers=(alice,)),))
    taken.intake.take(Seen(NAMED, replace(item("web", 102, 81), writers=(alice,))))
    taken.intake.drop(NAMED)
    taken.intake.take(Deleted(SERVICES, replace(item("a", 103), writers=(alice,))))
    assert [(change.name, change.writer, change.dropped) for change in taken.told] == [
        ("a", alice, False),
        ("web", None, False),
        ("web", alice, False),
        ("web", NOBODY, True),
        ("a", NOBODY, False),
    ]
