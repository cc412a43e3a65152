from __future__ import annotations

import contextlib
import getpass
from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio
from aiohttp import web

from eventually import eventually
from fake_api import (
    FakeApi,
    Raw,
    configmap,
    endpoint_slice,
    ingress,
    ingress_class,
    service,
    serving,
    tls_secret,
)
from portway_operator.objects import Kind
from portway_operator.sources import follower, listing
from portway_operator.sources.connection import Connection
from portway_operator.sources.kube import Change, KubeSource, Pace, Scope
from portway_operator.sources.resources import Target
from portway_operator.store import ObjectStore

WATCHED = (Kind.INGRESS, Kind.INGRESS_CLASS, Kind.SERVICE, Kind.ENDPOINT_SLICE, Kind.SECRET)
EVERYTHING = Scope()
PATIENT = Pace()
# What kopf watches, and what is followed without it.
MADE: dict[Kind, Callable[[str], Raw]] = {Kind.SERVICE: service, Kind.ENDPOINT_SLICE: endpoint_slice}


class Watched:
    """A source on a fake API server, and what it told."""

    def __init__(self, api: FakeApi, scope: Scope = EVERYTHING, pace: Pace = PATIENT) -> None:
        self.api = api
        self.store = ObjectStore()
        self.changes: list[Change] = []
        self.source = KubeSource(Connection(api.url), self.store, self.changes.append, scope, pace)

    def told(self) -> list[str]:
        marks = {(False, True): "+", (True, False): "-", (True, True): "~"}
        return [
            f"{marks[change.before is not None, change.after is not None]}{change.kind} {change.name}"
            for change in self.changes
        ]

    def has(self, kind: Kind, name: str, namespace: str = "shop") -> bool:
        return self.store.get(kind, namespace, name) is not None


@contextlib.asynccontextmanager
async def watching(api: FakeApi, scope: Scope = EVERYTHING, pace: Pace = PATIENT) -> AsyncIterator[Watched]:
    watched = Watched(api, scope, pace)
    watched.source.start()
    try:
        await eventually(watched.source.listed.is_set, 20, "everything is listed")
        await eventually(lambda: api.watching(*WATCHED[:4]), 20, "everything is watched")
        yield watched
    finally:
        await watched.source.stop()


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        api.apply(ingress_class())
        api.apply(service())
        api.apply(ingress("web"))
        api.apply(endpoint_slice("web-1", "10.1.0.1", "10.1.0.2"))
        api.apply(tls_secret("cert"))
        api.apply(tls_secret("password", kind="Opaque"))
        yield api


async def test_the_first_list_fills_the_store_before_anything_is_told(api: FakeApi) -> None:
    async with watching(api) as watched:
        assert watched.source.objects() == {
            "Ingress": 1,
            "IngressClass": 1,
            "Service": 1,
            "EndpointSlice": 1,
            "Secret": 1,
        }
        assert watched.has(Kind.SECRET, "cert")
        assert not watched.has(Kind.SECRET, "password")
        assert watched.changes == []
        assert watched.source.troubles() == []


async def test_an_object_appears_changes_and_goes(api: FakeApi) -> None:
    async with watching(api) as watched:
        api.apply(ingress("new"))
        await eventually(lambda: watched.has(Kind.INGRESS, "new"))
        api.apply(ingress("new", host="other.example"))
        await eventually(lambda: len(watched.changes) == 2)
        api.delete(Kind.INGRESS, "shop", "new")
        await eventually(lambda: not watched.has(Kind.INGRESS, "new"))
        assert watched.told() == ["+Ingress new", "~Ingress new", "-Ingress new"]


async def test_a_user_without_a_name_watches_too(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, whose user is a number and no line of /etc/passwd."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr(getpass, "getuser", nameless)
    async with watching(api) as watched:
        api.apply(ingress("new"))
        await eventually(lambda: watched.has(Kind.INGRESS, "new"))


async def test_changes_of_labels_status_and_managed_fields_cause_nothing(api: FakeApi) -> None:
    async with watching(api) as watched:
        for kind, raw in ((Kind.INGRESS, ingress("web")), (Kind.SERVICE, service())):
            raw["metadata"] |= {"labels": {"team": "a"}, "managedFields": [{"manager": "kubectl"}]}
            raw["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}
            api.apply(raw)
            events = watched.source.counters.events
            await eventually(partial(events.__contains__, kind))
        assert watched.changes == []


async def test_a_slice_that_moves_to_another_service_tells_both(api: FakeApi) -> None:
    async with watching(api) as watched:
        api.apply(endpoint_slice("web-1", "10.1.0.1", service="other"))
        await eventually(lambda: watched.changes)
        change = watched.changes[0]
        assert (change.before.service, change.after.service) == ("web", "other")  # type: ignore[union-attr]  # slices


async def test_what_vanished_while_history_was_lost_is_removed(api: FakeApi) -> None:
    for number in range(100):
        api.apply(endpoint_slice(f"many-{number}", "10.2.0.1"))
    async with watching(api) as watched:
        for number in range(50):
            api.lose(Kind.ENDPOINT_SLICE, "shop", f"many-{number}")
        api.apply(service("late"))
        api.compact()
        api.hang_up()
        await eventually(lambda: watched.source.objects()["EndpointSlice"] == 51, 20)
        await eventually(lambda: watched.has(Kind.SERVICE, "late"))
        assert sum(told.startswith("-EndpointSlice") for told in watched.told()) == 50
        assert len(watched.store.endpoint_slices) == 51


async def test_what_happened_while_a_watch_was_broken_arrives_when_it_is_mended(api: FakeApi) -> None:
    async with watching(api) as watched:
        lists = dict(api.lists)
        api.apply(endpoint_slice("web-1", "10.1.0.9"))
        await eventually(lambda: watched.changes)
        api.hang_up()
        api.apply(endpoint_slice("web-2", "10.1.0.3"))
        api.delete(Kind.ENDPOINT_SLICE, "shop", "web-1")
        await eventually(lambda: watched.has(Kind.ENDPOINT_SLICE, "web-2"))
        await eventually(lambda: not watched.has(Kind.ENDPOINT_SLICE, "web-1"))
        # A watch that had told a version resumes there.
        assert api.lists[Kind.ENDPOINT_SLICE] == lists[Kind.ENDPOINT_SLICE]


def refusing(code: int, retry_after: str = "") -> Callable[[web.Request], web.Response]:
    headers = {"Retry-After": retry_after} if retry_after else {}
    return lambda _: web.json_response({"kind": "Status", "message": "made up"}, status=code, headers=headers)


@pytest.mark.parametrize("code", [403, 404, 410, 429, 500, 503])
async def test_an_api_server_that_refuses_everything_ends_nothing(
    api: FakeApi, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(api) as watched:
        api.fault = refusing(code, "0" if code == 429 else "")
        api.hang_up()
        # More often than kopf itself would try.
        await eventually(lambda: watched.source.counters.refusals[Kind.SERVICE, str(code)] > 3)
        assert any("Service: " in trouble and str(code) in trouble for trouble in watched.source.troubles())
        api.lose(Kind.INGRESS, "shop", "web")
        api.compact()
        api.apply(service("late"))
        api.fault = lambda _: None
        await eventually(lambda: watched.has(Kind.SERVICE, "late"), 20)
        await eventually(lambda: not watched.has(Kind.INGRESS, "web"), 20)
        await eventually(lambda: watched.source.troubles() == [], 20)
        assert watched.source.counters.restarts == 0
        told = [record.getMessage() for record in caplog.records if "made up" in record.getMessage()]
        assert len(told) == len(WATCHED), "an outage is told once for each kind, not at each attempt"


async def test_an_outage_from_the_start_ends_with_everything_listed(api: FakeApi) -> None:
    api.fault = refusing(503)
    watched = Watched(api)
    watched.source.start()
    try:
        await eventually(lambda: len(api.requests) > 5)
        assert not watched.source.listed.is_set()
        assert "Service: not listed yet" in watched.source.troubles()
        api.fault = lambda _: None
        await eventually(watched.source.listed.is_set, 20)
        assert watched.has(Kind.INGRESS, "web")
    finally:
        await watched.source.stop()


async def test_an_api_server_that_is_gone_and_comes_back_is_followed_again(api: FakeApi) -> None:
    async with watching(api) as watched:
        await api.stop()
        await eventually(lambda: "ClientConnectorError" in str(watched.source.counters.refusals))
        api.lose(Kind.SERVICE, "shop", "web")
        api.compact()
        api.apply(service("new"))
        await api.start()
        await eventually(lambda: watched.has(Kind.SERVICE, "new"), 20)
        await eventually(lambda: not watched.has(Kind.SERVICE, "web"), 20)


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("code", [410, 500, 504])
async def test_an_error_event_costs_no_more_than_a_list(api: FakeApi, code: int, kind: Kind) -> None:
    async with watching(api) as watched:
        api.apply(MADE[kind]("old"))
        await eventually(lambda: watched.has(kind, "old"))
        api.say_event(kind, "ADDED", api.apply(MADE[kind]("before")))
        api.lose(kind, "shop", "old")
        api.say_error(kind, code, "etcdserver: leader changed")
        await eventually(lambda: not watched.has(kind, "old"))
        await eventually(lambda: api.watching(*WATCHED))
        api.apply(MADE[kind]("late"))
        await eventually(lambda: watched.has(kind, "late"))
        assert watched.has(kind, "before")
        assert watched.source.counters.refusals == {(kind, str(code)): 1}
        assert watched.source.counters.restarts == 0


async def test_a_kopf_that_ends_is_started_again(api: FakeApi) -> None:
    api.fault = lambda request: web.json_response({"groups": 5}) if request.path == "/apis" else None
    watched = Watched(api)
    watched.source.start()
    try:
        await eventually(lambda: watched.source.counters.restarts > 1, 20)
        api.fault = lambda _: None
        await eventually(watched.source.listed.is_set, 20)
        await eventually(lambda: api.watching(*WATCHED))
        api.apply(service("late"))
        await eventually(lambda: watched.has(Kind.SERVICE, "late"))
    finally:
        await watched.source.stop()


@pytest.mark.parametrize("line", [b"{", b"<html>proxy error</html>", b"[]", b'{"type":"ADDED","object":{}}'])
async def test_garbage_on_a_watch_is_survived(api: FakeApi, line: bytes) -> None:
    async with watching(api) as watched:
        api.say(Kind.ENDPOINT_SLICE, line)
        api.apply(endpoint_slice("late", "10.1.0.9"))
        await eventually(lambda: watched.has(Kind.ENDPOINT_SLICE, "late"))
        assert watched.source.counters.restarts == 0


async def test_a_watch_that_says_nothing_is_opened_anew(api: FakeApi) -> None:
    async with watching(api, pace=Pace(silent=0.5)) as watched:
        api.silent = True
        api.apply(service("unheard"))
        api.silent = False
        await eventually(lambda: watched.has(Kind.SERVICE, "unheard"))


async def test_an_event_that_was_never_sent_is_found_by_the_resync(api: FakeApi) -> None:
    async with watching(api, pace=Pace(resync=0.5, grace=0.1)) as watched:
        api.silent = True
        api.lose(Kind.INGRESS, "shop", "web")
        api.apply(service("unheard"))
        await eventually(lambda: watched.has(Kind.SERVICE, "unheard"))
        await eventually(lambda: not watched.has(Kind.INGRESS, "web"))
        assert sorted(watched.told()) == ["+Service unheard", "-Ingress web"]
        assert +watched.source.counters.corrections == {"Service": 1, "Ingress": 1}


async def test_an_event_that_was_lost_is_mended_within_a_minute() -> None:
    pace = Pace()
    lists = 10.0  # Twice what 10,000 objects take, on one core beside everything else.
    assert pace.resync * 1.2 + pace.grace + lists <= 60


async def test_where_nothing_was_lost_the_resync_asks_for_versions_alone(api: FakeApi) -> None:
    async with watching(api, pace=Pace(resync=0.1, grace=0.1)) as watched:
        lists = watched.source.counters.lists.copy()
        asked = api.lists.copy()
        for number in range(10):
            api.apply(service(f"web-{number}"))
            await eventually(lambda before=asked: all(api.lists[kind] > before[kind] for kind in before))  # type: ignore[misc]  # a default
            asked = api.lists.copy()
        assert watched.source.counters.lists == lists
        assert watched.source.counters.corrections.total() == 0
        assert api.queries["/api/v1/services"]["resourceVersionMatch"] == "NotOlderThan"


async def test_repeats_and_late_events_change_nothing(api: FakeApi) -> None:
    async with watching(api) as watched:
        old = api.apply(service("web", port=81))
        new = api.apply(service("web", port=82))
        gone = api.apply(service("gone"))
        api.delete(Kind.SERVICE, "shop", "gone")
        await eventually(lambda: len(watched.changes) == 4)
        for raw in (old, new, old, gone, new):
            api.say_event(Kind.SERVICE, "MODIFIED", raw)
        api.say_event(Kind.SERVICE, "DELETED", old)
        api.apply(service("last"))
        await eventually(lambda: watched.has(Kind.SERVICE, "last"))
        await eventually(lambda: watched.source.counters.events["Service"] == 11)
        assert watched.told()[4:] == ["+Service last"]
        found = watched.store.services["shop", "web"]
        assert found.ports[0].number == 82


async def test_a_restored_api_server_is_believed(api: FakeApi) -> None:
    async with watching(api) as watched:
        for port in range(81, 99):
            api.apply(service(port=port))
        await eventually(lambda: len(watched.changes) == 18)
        api.lose(Kind.INGRESS, "shop", "web")
        api.restore(101)
        api.hang_up()
        await eventually(lambda: not watched.has(Kind.INGRESS, "web"), 20)
        api.apply(service("late"))
        await eventually(lambda: watched.has(Kind.SERVICE, "late"), 20)


async def test_a_malformed_object_is_a_problem_and_its_last_version_stays(api: FakeApi) -> None:
    async with watching(api) as watched:
        api.apply(service("other"))
        broken = service()
        broken["spec"] = "all of it"
        api.apply(broken)
        await eventually(lambda: watched.store.reported)
        (problem,) = watched.store.reported
        assert str(problem.origin).startswith("Service shop/web spec")
        assert watched.has(Kind.SERVICE, "web")
        api.apply(service())
        await eventually(lambda: not watched.store.reported)
        assert watched.told() == ["+Service other", "~Service web", "~Service web"]


async def test_kopf_writes_nothing_even_where_another_kopf_left_its_mark(api: FakeApi) -> None:
    marked = ingress("marked")
    marked["metadata"] |= {
        "finalizers": ["kopf.zalando.org/KopfFinalizerMarker"],
        "annotations": {"kopf.zalando.org/last-handled-configuration": "{}"},
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    api.apply(marked)
    async with watching(api) as watched:
        marked["spec"]["rules"][0]["host"] = "new.example"
        api.apply(marked)
        await eventually(lambda: watched.changes)
        assert watched.source.counters.restarts == 0
    assert {method for method, _ in api.requests} == {"GET"}


async def test_only_the_named_namespaces_are_read(api: FakeApi) -> None:
    api.apply(service("web", namespace="bank"))
    api.apply(service("web", namespace="secret"))
    async with watching(api, Scope(namespaces=("shop", "bank"))) as watched:
        assert watched.has(Kind.SERVICE, "web", "shop")
        assert watched.has(Kind.SERVICE, "web", "bank")
        assert not watched.has(Kind.SERVICE, "web", "secret")
        assert watched.has(Kind.INGRESS_CLASS, "portway", "")
        api.apply(service("late", namespace="bank"))
        api.apply(ingress_class("late"))
        await eventually(lambda: watched.has(Kind.SERVICE, "late", "bank"))
        await eventually(lambda: watched.has(Kind.INGRESS_CLASS, "late", ""))
    assert "/api/v1/services" not in {path for _, path in api.requests}


async def test_named_objects_are_followed_and_no_others(api: FakeApi) -> None:
    own = Target(Kind.CONFIG_MAP, "portway", "portway")
    api.apply(configmap("portway", mode="strict"))
    api.apply(configmap("others"))
    scope = Scope(secret_namespaces=(), named=frozenset({own}))
    async with watching(api, scope) as watched:
        assert watched.has(Kind.CONFIG_MAP, "portway", "portway")
        assert not watched.has(Kind.CONFIG_MAP, "others", "portway")
        assert not watched.has(Kind.SECRET, "cert")

        watched.source.follow({Target(Kind.SECRET, "shop", "password")})
        await eventually(lambda: watched.has(Kind.SECRET, "password"))
        api.apply(configmap("portway", mode="ingress-nginx"))
        await eventually(lambda: "~ConfigMap portway" in watched.told())

        api.lose(Kind.CONFIG_MAP, "portway", "portway")
        api.compact()
        api.hang_up()
        await eventually(lambda: not watched.has(Kind.CONFIG_MAP, "portway", "portway"))
        api.lose(Kind.SECRET, "shop", "password")
        api.say_error(Kind.SECRET, 500)
        await eventually(lambda: not watched.has(Kind.SECRET, "password"))
        api.apply(tls_secret("password", kind="Opaque"))
        await eventually(lambda: watched.has(Kind.SECRET, "password"))

        watched.source.follow(())
        assert not watched.has(Kind.SECRET, "password")
    assert "/api/v1/secrets" not in {path for _, path in api.requests}
    assert api.queries["/api/v1/namespaces/portway/configmaps"]["fieldSelector"] == "metadata.name=portway"


async def test_an_object_that_is_named_and_watched_stays_until_neither_is_so(api: FakeApi) -> None:
    async with watching(api) as watched:
        watched.source.follow({Target(Kind.SECRET, "shop", "cert")})
        await eventually(lambda: watched.source.objects()["Secret"] == 2)
        watched.source.follow(())
        assert watched.has(Kind.SECRET, "cert")
        api.delete(Kind.SECRET, "shop", "cert")
        await eventually(lambda: not watched.has(Kind.SECRET, "cert"))


async def test_large_lists_are_read_in_pages(api: FakeApi) -> None:
    for number in range(1200):
        api.apply(service(f"many-{number}"))
    async with watching(api) as watched:
        assert watched.source.objects()["Service"] == 1201
    pages = [path for method, path in api.requests if path == "/api/v1/services"]
    assert len(pages) == 3 + 1, "three pages and a watch"


async def test_the_heart_beats_while_kopf_runs_and_stops_with_it(api: FakeApi) -> None:
    async with watching(api) as watched:
        before = watched.source.heartbeat
        await eventually(lambda: watched.source.heartbeat > before)


async def test_a_fault_of_ours_in_an_event_is_mended_by_a_list(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with watching(api) as watched:
        read = listing.read_item

        def fails(*_: object) -> None:
            monkeypatch.setattr(follower, "read_item", read)
            raise RuntimeError("a fault of ours")

        monkeypatch.setattr(follower, "read_item", fails)
        api.apply(endpoint_slice("web-9", "10.1.0.9"))
        await eventually(lambda: watched.has(Kind.ENDPOINT_SLICE, "web-9"))
        assert "cannot follow EndpointSlice" in caplog.text
        api.apply(endpoint_slice("web-10", "10.1.0.9"))
        await eventually(lambda: watched.has(Kind.ENDPOINT_SLICE, "web-10"))
