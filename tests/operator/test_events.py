"""`events.py`: problems as Events on a fake API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest_asyncio
from aiohttp import web

from eventually import eventually
from fake_api import FakeApi, Raw, ingress, serving
from portway_operator.api_objects import ApiObjects
from portway_operator.decode import decode
from portway_operator.events import EventPace, Events
from portway_operator.objects import Kind
from portway_operator.sources.connection import Connection
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Origin, Problem, Severity
from portway_proxy.tasks import Tasks

QUICK = EventPace(rate=1000, hold=0.02, again=0.1, refresh=30.0)
EVENTS = "/apis/events.k8s.io/v1/namespaces/shop/events"


def problem(
    code: str = "service_missing",
    *,
    name: str = "web",
    field: str = "spec.rules[0].http.paths[0]",
    found: str = "There is no Service shop/web.",
    severity: Severity = Severity.ERROR,
    kind: str = Kind.INGRESS,
) -> Problem:
    namespace = "" if kind in (Kind.INGRESS_CLASS, "Setting") else "shop"
    origin = Origin(str(kind), namespace, name, field)
    return Problem(origin, code, found, "It answers 503.", "Create it.", severity)


@dataclass
class Leads:
    leading: bool = True


class Scene:
    """Two replicas that see the same objects; the first leads."""

    def __init__(self, api: FakeApi, client: ApiObjects, pace: EventPace) -> None:
        self.api = api
        self.client = client
        self.store = ObjectStore()
        self.leads, self.other_leads = Leads(), Leads(leading=False)
        self.events = Events(client, self.leads, self.store, "portway-operator-a_1", pace)
        self.others = Events(client, self.other_leads, self.store, "portway-operator-b_2", pace)

    def put(self, raw: Raw) -> str:
        """Have an object; return its uid."""
        found = decode(self.api.apply(raw))
        assert found is not None
        self.store.put(found)
        return found.meta.uid

    def show(self, *problems: Problem) -> None:
        self.events.show(problems)
        self.others.show(problems)

    def sent(self, collection: str = EVENTS) -> list[Raw]:
        return self.api.objects.of(collection)

    def reasons(self) -> list[str]:
        return sorted(raw["reason"] for raw in self.sent())

    async def writes(self, count: int) -> None:
        await eventually(lambda: len(self.api.objects.writes) >= count, what=f"{count} writes")
        await self.settled()
        assert len(self.api.objects.writes) == count

    async def settled(self) -> None:
        await asyncio.sleep(0.12)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        yield api


@asynccontextmanager
async def running(api: FakeApi, pace: EventPace = QUICK) -> AsyncIterator[Scene]:
    connection, tasks = Connection(api.url), Tasks()
    async with connection.session() as session:
        scene = Scene(api, ApiObjects(session, connection), pace)
        tasks.spawn(scene.events.run(), "events")
        tasks.spawn(scene.others.run(), "others")
        try:
            yield scene
        finally:
            await tasks.close()


async def test_a_problem_becomes_an_event_on_its_object(api: FakeApi) -> None:
    async with running(api) as scene:
        uid = scene.put(ingress("web"))
        scene.show(problem())
        await scene.writes(1)
        [event] = scene.sent()
        name = event["metadata"]["name"]
        assert name.startswith("web.")
        assert event["regarding"] == {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "namespace": "shop",
            "name": "web",
            "uid": uid,
        }
        assert (event["type"], event["reason"], event["action"]) == ("Warning", "ServiceMissing", "Serve")
        assert event["note"] == (
            "spec.rules[0].http.paths[0]: There is no Service shop/web. It answers 503. Create it."
        )
        assert event["reportingController"] == "portway.dev/operator"
        assert event["reportingInstance"] == "portway-operator-a_1"
        assert event["eventTime"].endswith("Z")
        assert "series" not in event


async def test_a_notice_is_no_warning(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        scene.show(problem("no_endpoints", severity=Severity.NOTICE))
        await scene.writes(1)
        assert scene.sent()[0]["type"] == "Normal"


async def test_a_problem_that_stays_is_told_once(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        for _ in range(5):
            scene.show(problem())
            await asyncio.sleep(0.03)
        await scene.writes(1)


async def test_a_problem_that_is_mended_at_once_is_not_mentioned(api: FakeApi) -> None:
    async with running(api, EventPace(rate=1000, hold=0.2)) as scene:
        scene.put(ingress("web"))
        scene.show(problem())
        await asyncio.sleep(0.1)
        scene.show()
        await asyncio.sleep(0.3)
        assert api.objects.writes == []


async def test_a_problem_that_goes_leaves_no_new_event(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        scene.show(problem())
        await scene.writes(1)
        scene.show()
        await scene.writes(1)


async def test_a_problem_that_comes_back_counts_up_the_same_event(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        for _ in range(2):
            scene.show(problem())
            await eventually(lambda: api.objects.writes)
            scene.show()
            await asyncio.sleep(0.03)
        scene.show(problem())
        await scene.writes(2)
        [event] = scene.sent()
        assert event["series"]["count"] == 2
        assert event["series"]["lastObservedTime"].endswith("Z")
        assert api.objects.writes[-1] == ("PATCH", f"{EVENTS}/{event['metadata']['name']}")


async def test_a_problem_that_comes_and_goes_without_end_is_told_now_and_then(api: FakeApi) -> None:
    async with running(api, EventPace(rate=1000, hold=0.0, again=5.0)) as scene:
        scene.put(ingress("web"))
        for _ in range(20):
            scene.show(problem())
            await asyncio.sleep(0.02)
            scene.show()
        await scene.writes(1)


async def test_a_problem_that_stays_for_long_is_told_again_before_its_event_is_forgotten(api: FakeApi) -> None:
    async with running(api, EventPace(rate=1000, hold=0.02, refresh=0.2)) as scene:
        scene.put(ingress("web"))
        scene.show(problem())
        await eventually(lambda: len(api.objects.writes) >= 3)
        [event] = scene.sent()
        assert event["series"]["count"] >= 3
        # As after an hour.
        api.objects.by_path.clear()
        await eventually(scene.sent)


async def test_a_new_leader_repeats_nothing(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        scene.show(problem())
        await scene.writes(1)
        scene.leads.leading, scene.other_leads.leading = False, True
        scene.others.poke()
        # It asks for the very same Event, and learns that there is one.
        await scene.writes(2)
        assert len(scene.sent()) == 1
        assert scene.sent()[0]["reportingInstance"] == "portway-operator-a_1"


async def test_who_does_not_lead_says_nothing(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.leads.leading = False
        scene.put(ingress("web"))
        scene.show(problem())
        await scene.settled()
        assert api.objects.writes == []


async def test_a_namesake_made_later_is_told_by_itself(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        scene.show(problem())
        await scene.writes(1)
        api.delete(Kind.INGRESS, "shop", "web")
        scene.put(ingress("web"))
        scene.show(problem())
        await scene.writes(2)
        assert len({raw["regarding"]["uid"] for raw in scene.sent()}) == 2


async def test_an_object_that_cannot_be_read_gets_its_event_without_uid(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.show(problem("malformed", name="broken"))
        await scene.writes(1)
        assert "uid" not in scene.sent()[0]["regarding"]


async def test_what_is_in_no_namespace_is_told_in_the_default_one(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.show(problem("malformed", name="portway", kind=Kind.INGRESS_CLASS))
        await scene.writes(1)
        [event] = scene.sent("/apis/events.k8s.io/v1/namespaces/default/events")
        assert event["metadata"]["namespace"] == "default"
        assert event["regarding"]["namespace"] == ""


async def test_settings_are_no_objects_and_get_no_event(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.show(problem("setting_invalid", name="default-certificate", kind="Setting"))
        await scene.settled()
        assert api.objects.writes == []


async def test_an_object_with_a_thousand_problems_gets_a_few_events_errors_first(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        notices = [problem("path_pattern", field=f"a[{n}]", severity=Severity.NOTICE) for n in range(1000)]
        errors = [problem(field=f"b[{n}]") for n in range(20)]
        scene.show(*notices, *errors)
        await scene.writes(25)
        assert scene.reasons() == ["PathPattern"] * 5 + ["ServiceMissing"] * 20


async def test_a_long_story_is_cut_to_what_the_api_server_takes(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        scene.show(problem(found="x" * 3000, name="w" * 253))
        await scene.writes(1)
        [event] = scene.sent()
        assert len(event["note"]) == 1024
        assert len(event["metadata"]["name"]) <= 253


async def test_events_are_spread_over_time(api: FakeApi) -> None:
    async with running(api, EventPace(rate=20, burst=5, hold=0.0)) as scene:
        began = asyncio.get_running_loop().time()
        scene.show(*(problem(name=f"n{number}") for number in range(15)))
        await eventually(lambda: len(scene.sent()) == 15)
        assert asyncio.get_running_loop().time() - began >= 9 / 20


async def test_an_outage_is_waited_out(api: FakeApi) -> None:
    async with running(api) as scene:
        scene.put(ingress("web"))
        await api.stop()
        scene.show(problem())
        await eventually(lambda: sum(scene.client.errors.values()) >= 2)
        await api.start()
        await eventually(scene.sent)


async def test_a_namespace_that_takes_no_events_costs_the_others_nothing(api: FakeApi) -> None:
    refused = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal refused
        if request.path != EVENTS:
            return None
        refused += 1
        return web.json_response({"message": "namespace shop is being terminated"}, status=403)

    api.fault = fault
    async with running(api) as scene:
        default = "/apis/events.k8s.io/v1/namespaces/default/events"
        scene.show(problem(), problem("malformed", name="portway", kind=Kind.INGRESS_CLASS))
        await eventually(lambda: scene.sent(default))
        await scene.settled()
        assert refused == 1
