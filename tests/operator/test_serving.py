"""`serving.py`: which proxies serve an object, and why one does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio
from aiohttp import web

from fake_api import FakeApi
from fake_api import serving as serving_api
from portway_operator.api_objects import ApiObjects
from portway_operator.applied import Applied
from portway_operator.compile import compile_snapshot
from portway_operator.objects import Kind
from portway_operator.pods import Pods
from portway_operator.publish import Proxy
from portway_operator.serving import Answer, ProxyAnswer, Question, Serving
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.store import ObjectStore
from scenes import INGRESS, SHOP, objects, store_of

WEB = Question(Kind.INGRESS, "shop", "web")


@dataclass
class Registry:
    proxies: dict[str, Proxy] = field(default_factory=dict)


class Scene:
    """A store whose objects are published as versions, and proxies that follow or do not."""

    def __init__(self, pods: Pods, selector: str) -> None:
        self.store: ObjectStore = store_of(SHOP)
        self.applied = Applied()
        self.registry = Registry()
        self.version = 0
        self.serving = Serving(self.store, self.applied, self.registry, pods, selector)

    def put(self, text: str, *, version: int = 0) -> None:
        for one in objects(text):
            meta = one.meta
            object.__setattr__(meta, "resource_version", str(version))
            self.store.put(one)

    def publish(self) -> None:
        self.version += 1
        self.applied.settle(compile_snapshot(self.store, CompileSettings()), self.version)

    def proxy(self, name: str, version: int, **more: object) -> None:
        self.registry.proxies[name] = Proxy(name, version, **more)  # type: ignore[arg-type]  # the rest of its fields


PODS = "/api/v1/namespaces/portway/pods"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving_api() as api:
        yield api


@pytest_asyncio.fixture
async def pods(api: FakeApi) -> AsyncIterator[Pods]:
    connection = Connection(api.url)
    async with connection.session() as session:
        yield Pods(ApiObjects(session, connection), "portway")


@pytest_asyncio.fixture
async def scene(pods: Pods) -> Scene:
    scene = Scene(pods, "")
    scene.publish()
    return scene


async def test_an_object_is_applied_when_every_proxy_serves_it(scene: Scene) -> None:
    scene.proxy("a", 1)
    scene.proxy("b", 1)
    answers = (ProxyAnswer("a", applied=True), ProxyAnswer("b", applied=True))
    assert await scene.serving.answer(WEB) == Answer(applied=True, proxies=answers)


async def test_one_that_lags_behind_is_named(scene: Scene) -> None:
    scene.put(INGRESS.replace("path: /,", "path: /new,"))
    scene.publish()
    scene.proxy("a", 2)
    scene.proxy("b", 1)
    scene.proxy("c", 0)
    answer = await scene.serving.answer(WEB)
    assert not answer.applied
    assert [(one.applied, one.reason) for one in answer.proxies] == [
        (True, ""),
        (False, "It serves version 1, and not 2 yet."),
        (False, "It serves a version of another operator's, and not 2 yet."),
    ]


async def test_one_that_rejects_it_says_why(scene: Scene) -> None:
    scene.proxy("a", 0, rejected=1, error="Ingress shop/web: no such thing")
    [answer] = (await scene.serving.answer(WEB)).proxies
    assert answer.reason == "It rejected version 1: Ingress shop/web: no such thing."


async def test_what_changes_elsewhere_asks_for_nothing_new(scene: Scene) -> None:
    scene.proxy("a", 1)
    scene.put(INGRESS.replace("name: web, namespace", "name: late, namespace").replace("shop.example", "late.example"))
    scene.publish()
    assert (await scene.serving.answer(WEB)).applied
    assert not (await scene.serving.answer(Question(Kind.INGRESS, "shop", "late"))).applied


async def test_a_version_that_differs_in_nothing_that_we_read_is_applied_as_soon_as_it_is_seen(scene: Scene) -> None:
    scene.proxy("a", 1)
    newer = Question(Kind.INGRESS, "shop", "web", "77")
    answer = await scene.serving.answer(newer)
    assert answer == Answer(applied=False, reason="The operator has not seen this version of Ingress shop/web yet.")
    scene.put(INGRESS, version=77)
    assert (await scene.serving.answer(newer)).applied


async def test_a_change_that_is_seen_and_not_published_yet_is_not_applied(scene: Scene) -> None:
    scene.proxy("a", 1)
    scene.put(INGRESS.replace("path: /,", "path: /new,"))
    answer = await scene.serving.answer(WEB)
    assert answer == Answer(applied=False, reason="Ingress shop/web as it is now is not published yet.")


async def test_what_nobody_serves_says_so(scene: Scene) -> None:
    scene.proxy("a", 1)
    unknown = await scene.serving.answer(Question(Kind.INGRESS, "shop", "nothing"))
    assert unknown.reason == "The operator knows no Ingress shop/nothing."
    foreign = INGRESS.replace("name: web, namespace", "name: foreign, namespace").replace(
        "Name: portway", "Name: nginx"
    )
    scene.put(foreign)
    scene.publish()
    assert (await scene.serving.answer(Question(Kind.INGRESS, "shop", "foreign"))).reason == (
        "Ingress shop/foreign is not Portway's to serve, by its class."
    )
    scene.store.refuse(Kind.INGRESS, "shop", "web", "it cannot be applied")
    scene.publish()
    assert (await scene.serving.answer(WEB)).reason == (
        "Ingress shop/web is left out, because a proxy cannot apply it: it cannot be applied."
    )


async def test_without_any_proxy_nothing_is_applied(scene: Scene) -> None:
    assert await scene.serving.answer(WEB) == Answer(applied=False, reason="No proxy is there.")


def pod(name: str, *, ready: bool = True) -> dict[str, object]:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name, "labels": {"app": "proxy"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running", "conditions": conditions},
    }


async def test_a_ready_pod_that_follows_no_operator_is_found_and_one_that_is_not_ready_does_not_count(
    api: FakeApi, pods: Pods
) -> None:
    scene = Scene(pods, "app=proxy")
    scene.publish()
    for name, ready in (("a", True), ("lost", True), ("starting", False)):
        api.objects.put(PODS, pod(name, ready=ready))
    scene.proxy("a", 1)
    scene.proxy("starting", 0)
    scene.proxy("gone", 0)
    answer = await scene.serving.answer(WEB)
    assert [(one.name, one.reason) for one in answer.proxies] == [
        ("a", ""),
        ("lost", "It is ready, but follows no operator."),
    ]
    assert not answer.applied


async def test_when_pods_cannot_be_listed_those_that_follow_count(api: FakeApi, pods: Pods) -> None:
    scene = Scene(pods, "app=proxy")
    scene.publish()
    scene.proxy("a", 1)
    api.fault = lambda _: web.json_response({"message": "forbidden"}, status=403)
    assert (await scene.serving.answer(WEB)).applied


async def test_pods_are_listed_once_for_many_questions(api: FakeApi, pods: Pods) -> None:
    scene = Scene(pods, "app=proxy")
    scene.publish()
    scene.proxy("a", 1)
    api.objects.put(PODS, pod("a"))
    for _ in range(20):
        assert (await scene.serving.answer(WEB)).applied
    assert len(api.requests) == 1
