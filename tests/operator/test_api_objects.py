"""`api_objects.py` and `leases.py`: single objects on a fake API server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from fake_api import FakeApi, serving
from portway_operator.api_objects import ApiObjects, ApiUnavailable, Conflict, Missing
from portway_operator.leases import Lease, LeaseApi, LeaseTaken
from portway_operator.sources.connection import Connection

LEASES = "/apis/coordination.k8s.io/v1/namespaces/portway/leases"
MINE = f"{LEASES}/mine"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        yield api


@pytest_asyncio.fixture
async def objects(api: FakeApi) -> AsyncIterator[ApiObjects]:
    connection = Connection(api.url)
    async with connection.session() as session:
        yield ApiObjects(session, connection, seconds=1.0)


def raw(**spec: object) -> dict[str, object]:
    return {"metadata": {"name": "mine", "labels": {"team": "a"}}, "spec": spec}


async def test_an_object_is_created_read_replaced_and_patched(objects: ApiObjects) -> None:
    assert await objects.get(MINE) is None
    created = await objects.create(LEASES, raw(a=1))
    assert await objects.get(MINE) == created
    replaced = await objects.replace(MINE, {**created, "spec": {"a": 2, "b": 3}})
    patched = await objects.merge(MINE, {"spec": {"a": None}})
    assert (replaced["spec"], patched["spec"]) == ({"a": 2, "b": 3}, {"b": 3})
    assert objects.written == {"leases": 3}
    # That something is not there (yet) is an answer, and counted as one.
    assert objects.errors == {"404": 1}


async def test_who_comes_second_is_told(objects: ApiObjects) -> None:
    created = await objects.create(LEASES, raw(a=1))
    with pytest.raises(Conflict):
        await objects.create(LEASES, raw(a=2))
    await objects.replace(MINE, {**created, "spec": {"a": 2}})
    with pytest.raises(Conflict):
        await objects.replace(MINE, {**created, "spec": {"a": 3}})
    with pytest.raises(Conflict):
        await objects.merge(MINE, {"metadata": {"uid": "another"}})
    with pytest.raises(Missing):
        await objects.merge(f"{LEASES}/nothing", {})


@pytest.mark.parametrize(
    ("status", "passing"),
    [
        *((status, True) for status in (401, 403, 408, 429, 500, 503)),
        *((status, False) for status in (400, 404, 409, 422)),
    ],
)
async def test_only_some_failures_are_worth_another_try(
    api: FakeApi, objects: ApiObjects, status: int, passing: bool
) -> None:
    api.fault = lambda _: web.json_response({"message": "made up"}, status=status)
    with pytest.raises(ApiUnavailable, match=f"{status} made up") as caught:
        await objects.create(LEASES, raw())
    assert (caught.value.status, caught.value.passing) == (status, passing)
    assert objects.errors == {str(status): 1}


async def test_no_answer_at_all_is_a_failure_that_passes(api: FakeApi, objects: ApiObjects) -> None:
    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(math.inf)
        raise AssertionError

    api.objects.serve = never  # type: ignore[method-assign,assignment]  # a server that hangs
    with pytest.raises(ApiUnavailable) as caught:
        await objects.get(MINE)
    assert caught.value.passing
    await api.stop()
    with pytest.raises(ApiUnavailable):
        await objects.get(MINE)
    assert sum(objects.errors.values()) == 2
    await api.start()


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "7"])
async def test_what_is_no_object_is_a_failure(api: FakeApi, objects: ApiObjects, body: str) -> None:
    api.fault = lambda _: web.Response(text=body)
    with pytest.raises(ApiUnavailable):
        await objects.get(MINE)


# --- Leases


async def test_a_lease_is_taken_renewed_given_back_and_taken_by_another(api: FakeApi, objects: ApiObjects) -> None:
    leases = LeaseApi(objects, "portway", "mine")
    assert await leases.get() is None
    held = await leases.create(Lease().held("a", 15))
    spec = api.objects.by_path[MINE]["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", 15, 0)
    assert spec["acquireTime"] == spec["renewTime"]
    assert spec["renewTime"].endswith("Z")
    renewed = await leases.replace(held.held("a", 15))
    assert renewed.acquired == held.acquired
    assert renewed.renewed > held.renewed
    released = await leases.replace(renewed.released())
    assert (released.holder, released.seconds) == ("", 1)
    other = await leases.replace(released.held("b", 15))
    assert (other.holder, other.transitions) == ("b", 1)
    assert await leases.get() == other


async def test_what_others_put_into_a_lease_stays(api: FakeApi, objects: ApiObjects) -> None:
    api.objects.put(LEASES, raw(holderIdentity="", strategy="OldestEmulationVersion"))
    leases = LeaseApi(objects, "portway", "mine")
    found = await leases.get()
    assert found is not None
    await leases.replace(found.held("a", 15))
    stored = api.objects.by_path[MINE]
    assert stored["spec"]["strategy"] == "OldestEmulationVersion"
    assert stored["metadata"]["labels"] == {"team": "a"}


async def test_a_lease_that_another_was_faster_to_write_is_taken(api: FakeApi, objects: ApiObjects) -> None:
    leases = LeaseApi(objects, "portway", "mine")
    held = await leases.create(Lease().held("a", 15))
    with pytest.raises(LeaseTaken):
        await leases.create(Lease().held("b", 15))
    await leases.replace(held.held("a", 15))
    with pytest.raises(LeaseTaken):
        await leases.replace(held.held("b", 15))
    del api.objects.by_path[MINE]
    with pytest.raises(LeaseTaken):
        await leases.replace(held.held("b", 15))


async def test_an_object_that_is_no_lease_is_trouble_and_no_crash(api: FakeApi, objects: ApiObjects) -> None:
    api.objects.put(LEASES, raw(leaseDurationSeconds="soon"))
    with pytest.raises(ApiUnavailable, match="no Lease"):
        await LeaseApi(objects, "portway", "mine").get()
