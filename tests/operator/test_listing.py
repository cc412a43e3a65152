from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from fake_api import FakeApi, service, serving, tls_secret
from portway_operator.objects import Kind, Service
from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, Listing, fetch, read_item
from portway_operator.sources.resources import Target


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        yield api


async def fetched(api: FakeApi, target: Target) -> Listing:
    connection = Connection(api.url)
    async with connection.session() as session:
        return await fetch(session, connection, target)


async def test_a_list_is_read_to_its_last_page(api: FakeApi) -> None:
    for number in range(1001):
        api.apply(service(f"s{number}"))
    listing = await fetched(api, Target(Kind.SERVICE))
    assert len({item.name for item in listing.items}) == 1001
    assert (listing.version, listing.since) == (1101, "1101")
    assert isinstance(listing.items[0].object, Service)
    assert listing.items[0].version == 101


async def test_only_tls_secrets_are_asked_for(api: FakeApi) -> None:
    api.apply(tls_secret("cert"))
    api.apply(tls_secret("password", kind="Opaque"))
    assert [item.name[1] for item in (await fetched(api, Target(Kind.SECRET))).items] == ["cert"]
    assert api.queries["/api/v1/secrets"]["fieldSelector"] == "type=kubernetes.io/tls"


async def test_a_named_target_is_one_object(api: FakeApi) -> None:
    api.apply(service("a"))
    api.apply(service("b"))
    listing = await fetched(api, Target(Kind.SERVICE, "shop", "b"))
    assert [item.name for item in listing.items] == [("shop", "b")]


async def test_an_empty_list_has_a_version(api: FakeApi) -> None:
    assert await fetched(api, Target(Kind.INGRESS)) == Listing(100, "100", ())


async def test_items_may_be_null_as_go_writes_no_items(api: FakeApi) -> None:
    api.fault = lambda _: web.json_response({"metadata": {"resourceVersion": "7"}, "items": None})
    assert await fetched(api, Target(Kind.INGRESS)) == Listing(7, "7", ())


async def test_a_refusal_in_the_middle_is_raised_with_the_servers_words(api: FakeApi) -> None:
    for number in range(600):
        api.apply(service(f"s{number}"))
    gone = {"kind": "Status", "message": "The provided continue parameter is too old"}
    api.fault = lambda request: web.json_response(gone, status=410) if "continue" in request.query else None
    with pytest.raises(ApiRefused, match="410 The provided continue parameter is too old"):
        await fetched(api, Target(Kind.SERVICE))


async def test_a_refusal_of_a_proxy_in_between_is_raised_with_its_reason(api: FakeApi) -> None:
    api.fault = lambda _: web.Response(status=429, text="<html>", headers={"Retry-After": "7"})
    with pytest.raises(ApiRefused, match="429 Too Many Requests") as caught:
        await fetched(api, Target(Kind.SERVICE))
    assert caught.value.retry_after == 7.0


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"metadata":{},"items":[5]}', '{"items":[]}'])
async def test_an_answer_that_is_no_list_is_an_error(api: FakeApi, body: str) -> None:
    api.fault = lambda _: web.Response(text=body)
    with pytest.raises(msgspec.MsgspecError):
        await fetched(api, Target(Kind.SERVICE))


def test_a_malformed_object_is_a_problem_that_names_it() -> None:
    raw = service("web")
    raw["metadata"]["resourceVersion"] = "5"
    raw["spec"]["ports"] = {"http": 80}
    item = read_item(Kind.SERVICE, raw)
    assert (item.name, item.version, item.object) == (("shop", "web"), 5, None)
    assert item.problem is not None
    assert str(item.problem.origin).startswith("Service shop/web spec.ports")


def test_a_version_that_is_no_number_is_none() -> None:
    raw = service("web")
    raw["metadata"]["resourceVersion"] = "5a"
    assert read_item(Kind.SERVICE, raw).version is None
