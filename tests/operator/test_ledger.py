from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from portway_operator.sources.ledger import Ledger, Name, Settled

A: Name = ("shop", "a")
B: Name = ("shop", "b")


def test_a_newer_version_is_news_and_the_same_or_an_older_one_is_not() -> None:
    ledger = Ledger()
    assert ledger.admit(A, 10)
    assert not ledger.admit(A, 10)
    assert not ledger.admit(A, 9)
    assert ledger.admit(A, 11)


def test_an_event_from_before_a_deletion_does_not_bring_the_object_back() -> None:
    ledger = Ledger()
    ledger.admit(A, 10)
    assert ledger.retire(A, 12)
    assert not ledger.admit(A, 11)
    assert ledger.admit(A, 13)


def test_a_late_deletion_does_not_take_the_object_that_took_its_name() -> None:
    ledger = Ledger()
    ledger.admit(A, 20)
    assert not ledger.retire(A, 12)
    assert A in ledger


def test_a_deletion_of_what_was_never_seen_is_no_news_but_is_remembered() -> None:
    ledger = Ledger()
    assert not ledger.retire(A, 12)
    assert not ledger.admit(A, 11)


def test_a_list_adds_changes_and_removes() -> None:
    ledger = Ledger()
    ledger.admit(A, 10)
    ledger.admit(B, 11)
    settled = ledger.settle(20, {A: 15, ("shop", "c"): 16}, mark=11)
    assert settled == Settled(frozenset({A, ("shop", "c")}), frozenset({B}))


def test_a_list_leaves_alone_what_is_newer_than_itself() -> None:
    ledger = Ledger()
    ledger.admit(A, 10)
    ledger.admit(B, 25)
    ledger.retire(A, 30)
    assert ledger.settle(20, {A: 10}, mark=10) == Settled()
    assert B in ledger
    assert A not in ledger


def test_an_event_from_before_a_list_does_not_bring_back_what_the_list_lacked() -> None:
    ledger = Ledger()
    ledger.settle(20, {}, mark=0)
    assert not ledger.admit(A, 15)
    assert ledger.admit(A, 21)


def test_a_list_that_another_list_overtook_teaches_nothing() -> None:
    ledger = Ledger()
    ledger.settle(30, {A: 29}, mark=0)
    assert ledger.settle(20, {B: 10}, mark=0) == Settled()
    assert A in ledger


def test_a_list_heals_what_cannot_be_true() -> None:
    ledger = Ledger()
    ledger.admit(A, 18)
    assert ledger.settle(20, {A: 17}, mark=18).fresh == {A}


def test_after_a_restore_of_the_server_its_list_is_the_whole_truth() -> None:
    ledger = Ledger()
    ledger.admit(A, 100)
    ledger.admit(B, 101)
    assert ledger.settle(50, {A: 40}, mark=101) == Settled(frozenset({A}), frozenset({B}), rewound=True)
    assert ledger.admit(A, 51)


_step = st.tuples(st.sampled_from("abc"), st.sampled_from(["write", "delete"]))


@given(st.lists(_step, max_size=20), st.randoms(use_true_random=False), st.data())
def test_any_order_of_events_with_repeats_and_lists_ends_in_the_servers_state(
    steps: list[tuple[str, str]], random: object, data: st.DataObject
) -> None:
    server: dict[Name, int] = {}
    events: list[tuple[str, Name, int]] = []
    lists: list[tuple[int, dict[Name, int]]] = []
    for version, (letter, step) in enumerate(steps, start=1):
        name = ("shop", letter)
        if step == "write":
            server[name] = version
            events.append(("write", name, version))
        elif server.pop(name, None) is not None:
            events.append(("delete", name, version))
        lists.append((version, dict(server)))
    arrivals: list[tuple[str, Name, int] | tuple[int, dict[Name, int]]] = [
        *data.draw(st.permutations([*events, *events])),
    ]
    for listed in data.draw(st.lists(st.sampled_from(lists), max_size=3)) if lists else []:
        arrivals.insert(data.draw(st.integers(0, len(arrivals))), listed)

    ledger, known = Ledger(), dict[Name, int]()
    for arrival in arrivals:
        if len(arrival) == 3:
            kind, name, version = arrival
            if kind == "write" and ledger.admit(name, version):
                known[name] = version
            elif kind == "delete" and ledger.retire(name, version):
                del known[name]
        else:
            version, listed_objects = arrival
            # Asked for before anything was known: the mark never makes it look like a restore.
            settled = ledger.settle(version, listed_objects, mark=0)
            known.update((name, listed_objects[name]) for name in settled.fresh)
            for name in settled.vanished:
                del known[name]
    assert known == server
    assert ledger.names() == frozenset(server)


VERSIONS = st.integers(1, 20)
STEPS = st.lists(st.tuples(st.sampled_from(["admit", "retire", "settle"]), st.sampled_from([A, B]), VERSIONS))


@given(STEPS, st.dictionaries(st.sampled_from([A, B, ("shop", "c")]), VERSIONS), VERSIONS)
def test_a_list_is_lacking_exactly_when_it_would_teach_something(
    steps: list[tuple[str, Name, int]], listed: dict[Name, int], version: int
) -> None:
    ledger = Ledger()
    for what, name, seen in steps:
        match what:
            case "admit":
                ledger.admit(name, seen)
            case "retire":
                ledger.retire(name, seen)
            case _:
                ledger.settle(seen, {name: seen}, mark=0)
    lacks = ledger.lacks(version, listed)
    assert lacks == (ledger.settle(version, listed, mark=0) != Settled())
