from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from eventually import eventually
from fake_api import Raw, endpoint_slice, ingress, ingress_class, service
from portway_operator.decode import decode
from portway_operator.decode.writers import NOBODY, Writer
from portway_operator.lanes import steer
from portway_operator.objects import Kind, Object
from portway_operator.rebuild import Rebuild, Update
from portway_operator.settings import CompileSettings
from portway_operator.sources.intake import Change
from portway_operator.store import ObjectStore
from portway_proxy.tasks import Tasks


class Lanes:
    """A store whose changes are steered, and what is published."""

    def __init__(self) -> None:
        self.store = ObjectStore()
        self.updates: list[Update] = []
        self.rebuild = Rebuild(self.store, CompileSettings(), self._publish)
        self.take = steer(self.rebuild)

    async def _publish(self, update: Update) -> None:
        self.updates.append(update)

    def put(self, raw: Raw, writer: Writer = NOBODY) -> None:
        new = read(raw)
        before = self.store.get(new.kind, *new.meta.key)
        if self.store.put(new):
            self.take(Change(new.kind, *new.meta.key, before, new, writer))

    def endpoints(self, upstream: str) -> list[str]:
        found = {one.name: one for one in self.updates[-1].snapshot.upstreams}
        return [endpoint.address for endpoint in found[upstream].endpoints]


def read(raw: Raw) -> Object:
    found = decode(raw)
    assert found is not None
    return found


@pytest_asyncio.fixture
async def lanes() -> AsyncIterator[Lanes]:
    lanes, tasks = Lanes(), Tasks()
    classes = ingress_class()
    classes["spec"]["controller"] = "portway.dev/ingress-controller"
    for raw in (classes, service(), service("api"), ingress("web"), ingress("api", host="api.example", service="api")):
        lanes.put(raw)
    for name in ("web", "api"):
        lanes.put(endpoint_slice(f"{name}-1", "10.1.0.1", service=name))
    lanes.rebuild.ready()
    tasks.spawn(lanes.rebuild.run(), "rebuild")
    await eventually(lambda: lanes.updates)
    yield lanes
    await tasks.close()


def wide(update: Update) -> bool:
    """Return whether a whole compile made it: the lane of endpoints makes narrow deltas alone."""
    return update.delta is not None and update.delta.wide


async def test_a_change_of_endpoints_is_a_delta_at_once(lanes: Lanes) -> None:
    lanes.put(endpoint_slice("web-1", "10.1.0.2"))
    for _ in range(5):
        await asyncio.sleep(0)
    delta = lanes.updates[1].delta
    assert delta is not None
    assert not delta.wide
    assert [upstream.name for upstream in delta.upstreams] == ["shop/web:80"]
    assert lanes.endpoints("shop/web:80") == ["10.1.0.2"]


async def test_a_change_of_a_slice_is_one_change(monkeypatch: pytest.MonkeyPatch, lanes: Lanes) -> None:
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(lanes.rebuild, "endpoint_changed", lambda *service: told.append(service))
    lanes.put(endpoint_slice("web-1", "10.1.0.2"))
    lanes.put(endpoint_slice("web-3", "10.1.0.3"))
    assert told == [("shop", "web")] * 2


async def test_a_slice_that_moves_changes_both_services(lanes: Lanes) -> None:
    lanes.put(endpoint_slice("web-2", "10.1.0.2"))
    await eventually(lambda: lanes.endpoints("shop/web:80") == ["10.1.0.1", "10.1.0.2"])
    lanes.put(endpoint_slice("web-2", "10.1.0.2", service="api"))
    await eventually(lambda: lanes.endpoints("shop/web:80") == ["10.1.0.1"])
    assert lanes.endpoints("shop/api:80") == ["10.1.0.1", "10.1.0.2"]
    assert not any(wide(update) for update in lanes.updates[1:])


async def test_a_change_of_routes_is_a_whole_compile(lanes: Lanes) -> None:
    lanes.put(ingress("web", host="new.example"))
    await eventually(lambda: len(lanes.updates) == 2)
    assert wide(lanes.updates[1])
    assert {host.name for host in lanes.updates[1].snapshot.hosts} == {"new.example", "api.example"}


async def test_a_slice_that_became_malformed_is_a_matter_for_the_whole_compile(lanes: Lanes) -> None:
    found = lanes.store.get(Kind.ENDPOINT_SLICE, "shop", "web-1")
    lanes.store.remove(Kind.ENDPOINT_SLICE, "shop", "web-1")
    lanes.take(Change(Kind.ENDPOINT_SLICE, "shop", "web-1", found, found))
    await eventually(lambda: len(lanes.updates) == 2)
    assert wide(lanes.updates[1])


def causes(update: Update) -> list[tuple[str, str, str]]:
    return [(one.name, one.action, one.manager) for one in update.causes]


async def test_each_update_tells_what_led_to_it_and_nothing_else(lanes: Lanes) -> None:
    lanes.put(endpoint_slice("web-1", "10.1.0.2"))
    await eventually(lambda: len(lanes.updates) == 2)
    lanes.put(ingress("web", host="new.example"), Writer("alice", "2026-01-31T12:00:00Z"))
    lanes.put(endpoint_slice("none-1", "10.1.0.9", service="none"))
    lanes.put(endpoint_slice("loose-1", "10.1.0.9") | {"metadata": {"namespace": "shop", "name": "loose-1"}})
    await eventually(lambda: len(lanes.updates) == 3)
    lanes.put(endpoint_slice("web-1", "10.1.0.3"))
    await eventually(lambda: len(lanes.updates) == 4)
    assert [causes(update) for update in lanes.updates[1:]] == [
        [("web-1", "changed", "")],
        [("web", "changed", "alice")],
        [("web-1", "changed", "")],
    ]


async def test_a_service_without_endpoints_is_told_by_the_slice_that_lost_them(lanes: Lanes) -> None:
    lanes.put(endpoint_slice("web-1"))
    await eventually(lambda: len(lanes.updates) == 3)
    assert causes(lanes.updates[1]) == [("web-1", "changed", "")]
    assert not wide(lanes.updates[1])
    assert [problem.code for problem in lanes.updates[2].snapshot.problems] == ["no_endpoints"]


async def test_what_is_dropped_is_no_cause(lanes: Lanes) -> None:
    found = lanes.store.get(Kind.SERVICE, "shop", "api")
    lanes.store.remove(Kind.SERVICE, "shop", "api")
    lanes.take(Change(Kind.SERVICE, "shop", "api", found, None, dropped=True))
    await eventually(lambda: len(lanes.updates) == 2)
    assert causes(lanes.updates[1]) == []
