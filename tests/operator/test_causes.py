"""`causes.py` and `decode/writers.py`: which objects are told with a generation, and who wrote them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fake_api import endpoint_slice, ingress
from portway_operator.causes import Causes, cause_of, services_of
from portway_operator.decode import decode
from portway_operator.decode.writers import NOBODY, LastWriters, Writer, read_writers
from portway_operator.objects import Kind, Object
from portway_operator.sources.intake import Change
from portway_proxy.history import Action, Cause

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
WEB = ("shop", "web")
USED = {WEB}


def entry(manager: str, minute: int, **more: object) -> dict[str, object]:
    return {"manager": manager, "operation": "Update", "time": f"2026-01-31T11:{minute:02}:00Z", **more}


def writers(*entries: object) -> tuple[Writer, ...]:
    return read_writers({"metadata": {"name": "web", "managedFields": list(entries)}})


def writer(*entries: object) -> Writer:
    return LastWriters().last("web", writers(*entries))


def cause(name: str = "web", action: Action = Action.CHANGED, kind: str = "Ingress", minute: int = 0) -> Cause:
    return Cause(kind, "shop", name, action, "alice", NOW + timedelta(minutes=minute))


def sliced(name: str = "web-1") -> Cause:
    return cause(name, kind="EndpointSlice")


def test_the_last_to_write_is_told_wherever_it_stands() -> None:
    assert writer(entry("helm", 5), entry("kubectl-edit", 9), entry("alice", 7)) == (
        "kubectl-edit",
        "2026-01-31T11:09:00Z",
    )


def test_of_two_in_one_second_the_one_that_is_named_last_counts() -> None:
    assert writer(entry("alice", 5), entry("bob", 5)).manager == "bob"


def test_of_two_in_one_second_it_is_who_is_new_or_wrote_since() -> None:
    last = LastWriters()
    assert last.last("web", writers(entry("helm", 5))).manager == "helm"
    both = writers(entry("alice", 5), entry("helm", 5))
    assert last.last("other", both).manager == "helm"
    assert last.last("web", both).manager == "alice"
    assert last.last("web", both).manager == "alice"
    assert last.last("web", writers(entry("alice", 5), entry("helm", 6))).manager == "helm"
    assert last.last("web", writers(entry("alice", 5))).manager == "alice"


def test_only_the_writers_of_the_last_objects_are_remembered() -> None:
    last = LastWriters()
    for number in range(1002):
        last.last(number, writers(entry("helm", 5)))
    both = writers(entry("alice", 5), entry("helm", 5))
    assert [last.last(number, both).manager for number in (0, 1001)] == ["helm", "alice"]


def test_who_wrote_the_status_alone_does_not_count_unless_nobody_else_is_known() -> None:
    assert writer(entry("helm", 5), entry("portway", 9, subresource="status")).manager == "helm"
    assert writer(entry("portway", 9, subresource="status")).manager == "portway"


@pytest.mark.parametrize(
    "metadata",
    [None, "no mapping", {}, {"managedFields": "none"}, {"managedFields": [3, None]}, {"managedFields": [{}]}],
)
def test_metadata_that_does_not_say_it_names_nobody(metadata: object) -> None:
    assert LastWriters().last("web", read_writers({"metadata": metadata})) == NOBODY
    assert read_writers({}) == ()


def test_times_are_read_in_every_form_and_none_is_the_time_of_reading() -> None:
    assert writer(entry("alice", 5)).at(NOW) == datetime(2026, 1, 31, 11, 5, tzinfo=UTC)
    assert Writer("alice", "2026-01-31T13:05:00.123456+02:00").at(NOW) == datetime(2026, 1, 31, 11, 5, 0, 123456, UTC)
    dated = datetime(2026, 1, 31, 13, 5, tzinfo=timezone(timedelta(hours=2)))
    assert writer({"manager": "alice", "time": dated}).at(NOW) == datetime(2026, 1, 31, 11, 5, tzinfo=UTC)
    assert [Writer("alice", text).at(NOW) for text in ("", "noon", "2026-01-31T11:05:00")] == [NOW] * 3


def read(raw: dict[str, object]) -> Object:
    found = decode(raw)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (False, True, "Ingress shop/web created by helm at 2026-01-31 11:05:00 UTC"),
        (True, True, "Ingress shop/web changed by helm at 2026-01-31 11:05:00 UTC"),
        (True, False, "Ingress shop/web deleted at 2026-01-31 12:00:00 UTC"),
    ],
)
def test_a_change_is_told_by_what_became_of_the_object(*, before: bool, after: bool, said: str) -> None:
    found = read(ingress("web"))
    versions = [found if there else None for there in (before, after)]
    change = Change(Kind.INGRESS, "shop", "web", versions[0], versions[1], writer(entry("helm", 5)))
    assert str(cause_of(change, NOW)) == said


def test_what_was_there_before_is_read_and_not_created() -> None:
    change = Change(Kind.SECRET, "shop", "users", None, read(ingress("web")), None)
    assert str(cause_of(change, NOW)) == "Secret shop/users read at 2026-01-31 12:00:00 UTC"


def test_a_slice_that_moves_is_about_both_services() -> None:
    before, after = read(endpoint_slice("web-1", "10.1.0.1")), read(endpoint_slice("web-1", "10.1.0.1", service="api"))
    assert services_of(Change(Kind.ENDPOINT_SLICE, "shop", "web-1", before, after)) == {WEB, ("shop", "api")}
    assert services_of(Change(Kind.ENDPOINT_SLICE, "shop", "web-1", before, before)) == set()
    assert services_of(Change(Kind.INGRESS, "shop", "web", None, before)) == set()


def test_a_compile_tells_what_it_saw_and_the_endpoints_until_it_was_over() -> None:
    causes = Causes()
    causes.note(sliced(), {WEB})
    causes.note(cause())
    causes.begin()
    causes.note(cause("late"))
    causes.note(sliced("web-2"), {WEB})
    causes.note(sliced("other-1"), {("shop", "other")})
    assert causes.of_compile(USED) == (cause(), sliced(), sliced("web-2"))
    causes.compiled()
    causes.begin()
    assert causes.of_compile(USED) == (cause("late"),)


def test_what_comes_while_a_compile_is_published_is_told_the_next_time() -> None:
    causes = Causes()
    causes.begin()
    causes.of_compile(USED)
    causes.note(sliced(), {WEB})
    causes.compiled()
    assert causes.of_endpoints({WEB}, USED) == (sliced(),)


def test_a_compile_that_is_refused_tells_its_causes_again() -> None:
    causes = Causes()
    causes.note(cause())
    causes.begin()
    assert causes.of_compile(USED) == (cause(),)
    causes.note(cause("other", minute=1))
    causes.begin()
    assert causes.of_compile(USED) == (cause(), cause("other", minute=1))


def test_endpoints_are_told_once_and_those_that_nothing_uses_never() -> None:
    causes = Causes()
    causes.note(sliced(), {WEB})
    causes.note(sliced("other-1"), {("shop", "other")})
    assert causes.of_endpoints({WEB, ("shop", "other")}, USED) == (sliced(),)
    assert causes.of_endpoints({WEB, ("shop", "other")}, {WEB, ("shop", "other")}) == ()


def test_a_service_that_changed_meanwhile_is_told_with_its_endpoints_and_again_with_its_compile() -> None:
    causes = Causes()
    causes.note(cause(kind="Service"))
    causes.note(sliced(), {WEB})
    assert causes.of_endpoints({WEB}, USED) == (cause(kind="Service"), sliced())
    causes.begin()
    assert causes.of_compile(USED) == (cause(kind="Service"),)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (Action.CREATED, Action.CHANGED, Action.CREATED),
        (Action.DELETED, Action.CREATED, Action.CHANGED),
        (Action.CREATED, Action.DELETED, Action.DELETED),
        (Action.CHANGED, Action.CHANGED, Action.CHANGED),
    ],
)
def test_what_happened_to_one_object_twice_is_told_once(first: Action, second: Action, told: Action) -> None:
    causes = Causes()
    causes.note(cause(action=first))
    causes.note(cause(action=second, minute=1))
    causes.begin()
    assert causes.of_compile(USED) == (cause(action=told, minute=1),)
