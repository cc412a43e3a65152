"""`health.py`, `operator_app.py`, `operator_metrics.py` and `wait_applied.py`: an operator on a fake API server."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from eventually import eventually
from fake_api import FakeApi, Raw, endpoint_slice, ingress, ingress_class, service, serving
from portway_operator.heartbeat import Heartbeat
from portway_operator.objects import Kind
from portway_operator.operator_app import OperatorApp
from portway_operator.operator_settings import OperatorSettings, OwnPods, StatusSettings
from portway_operator.serving import Answer
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.stream_settings import StreamSettings
from portway_operator.wait_applied import (
    Asked,
    CannotAsk,
    OperatorPlace,
    RemoteOperator,
    current_version,
    parse_asked,
    wait_applied,
)
from portway_proxy.admin_access import CONTENT_POLICY
from portway_proxy.dashboard.feed import Table
from portway_proxy.explain.explanation import Explanation
from portway_proxy.stream import Ack, Verdict
from portway_proxy.tasks import Tasks

SETTINGS = OperatorSettings(
    pods=OwnPods("portway-operator-1", "portway"),
    compile=CompileSettings(controller="portway.dev/ingress"),
    stream=StreamSettings(address="127.0.0.1", port=0, accounts=("proxy",), plain=True),
    status=StatusSettings(addresses=("192.0.2.1",)),
    health_port=0,
)
LEASE = "/apis/coordination.k8s.io/v1/namespaces/portway/leases/portway"


@dataclass
class Running:
    """An operator, and somebody who asks its health server."""

    app: OperatorApp
    api: FakeApi
    client: aiohttp.ClientSession

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.app.health_port}"

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(self.url + path) as response:
            return response.status, await response.text()

    async def becomes(self, path: str, status: int) -> str:
        """Wait until a page answers with a status, and return its body."""
        for _ in range(400):
            found, body = await self.get(path)
            if found == status:
                return body
            await asyncio.sleep(0.02)
        raise AssertionError(f"{path} answers {found}: {body}")

    def proxy(self, node: str = "portway-proxy-1", version: int | None = None) -> None:
        """Let a proxy serve what is published, or a version of before."""
        publisher = self.app.publisher
        assert publisher.published is not None
        wanted = publisher.version if version is None else version
        publisher.acknowledge(Ack(node, publisher.epoch, wanted, publisher.published.digest, Verdict.APPLIED))


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        for raw in (ingress_class(), service(), ingress("web"), endpoint_slice("web-1", "10.1.0.1")):
            api.apply(raw)
        yield api


@asynccontextmanager
async def operating(api: FakeApi, settings: OperatorSettings = SETTINGS) -> AsyncIterator[Running]:
    app = OperatorApp(Connection(api.url), settings)
    await app.start()
    async with aiohttp.ClientSession() as client:
        try:
            yield Running(app, api, client)
        finally:
            await app.close()


async def test_an_operator_is_ready_when_everything_was_listed_and_published(api: FakeApi) -> None:
    api.fault = lambda request: (
        web.json_response({"message": "secrets is forbidden"}, status=403) if "secrets" in request.path else None
    )
    async with operating(api) as operator:
        await eventually(lambda: any("forbidden" in one for one in operator.app.source.troubles()))
        status, body = await operator.get("/readyz")
        assert status == 503
        assert body.splitlines()[0] == "the cluster is not known yet"
        assert "Secret: 403 secrets is forbidden" in body
        assert operator.app.publisher.version == 0
        api.fault = lambda _: None
        assert await operator.becomes("/readyz", 200) == "ready\n"
        assert operator.app.publisher.version == 1


async def test_a_request_is_explained_by_what_is_published(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        status, body = await operator.get("/explain?url=http://shop.example/&format=json")
        found = msgspec.json.decode(body, type=Explanation)
        assert (status, found.generation, found.upstream) == (200, operator.app.publisher.version, "shop/web:80")
        theirs = ingress("theirs", host="theirs.example")
        theirs["spec"]["ingressClassName"] = "nginx"
        api.apply(theirs)
        await eventually(lambda: len(operator.app.store.ingresses) == 2)
        _, body = await operator.get("/explain?url=http://theirs.example/")
        assert "theirs.example has a rule here, and the Ingress is of the class 'nginx', which is not ours." in body


async def test_the_operator_shows_what_is_published_and_its_proxies_on_a_dashboard(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy()
        status, page = await operator.get("/dashboard/")
        assert (status, "<html" in page) == (200, True)
        table = msgspec.json.decode((await operator.get("/dashboard/routes"))[1], type=Table)
        assert [(row.host, row.path, row.upstream) for row in table.routes] == [
            ("shop.example", "/", "shop/web:80"),
        ]
        async with operator.client.get(f"{operator.url}/dashboard/stream") as stream:
            sent = b""
            while b"event: proxies" not in sent or not sent.endswith(b"\n\n"):
                sent += await stream.content.readany()
        assert b'"role":"operator"' in sent
        assert b'["portway-proxy-1","","","current",1,' in sent


async def test_an_api_server_that_goes_away_changes_nothing_about_readiness(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        await api.stop()
        await eventually(operator.app.source.troubles)
        assert (await operator.get("/readyz"))[0] == 200
        assert (await operator.get("/livez"))[0] == 200
        await api.start()


async def test_an_operator_whose_kopf_hangs_is_not_alive(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    async with operating(api) as operator:
        status, body = await operator.get("/livez")
        assert (status, body.partition(";")[0]) == (200, "alive")
        assert body.endswith(" s\n")
        monkeypatch.setattr(type(operator.app.source), "heartbeat", 0.0)
        status, body = await operator.get("/livez")
        assert status == 503
        assert body.startswith("kopf gave no sign of life for ")


async def test_an_operator_writes_a_status_once_a_proxy_serves_the_ingress(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        await eventually(lambda: operator.app.leader.leading)
        await asyncio.sleep(0.2)
        assert api.patches == []
        operator.proxy()
        await eventually(lambda: len(api.patches) == 1)
        assert api.all(Kind.INGRESS)[0]["status"] == {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}


async def test_an_object_that_a_proxy_rejects_is_left_out_and_its_owner_told(api: FakeApi) -> None:
    api.apply(ingress("bad", host="bad.example"))
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        publisher = operator.app.publisher
        assert publisher.published is not None
        publisher.acknowledge(
            Ack("a", publisher.epoch, 1, publisher.published.digest, Verdict.REJECTED, "it is bad", "Ingress shop/bad")
        )
        await eventually(lambda: publisher.version == 2)
        routes = {host.name: len(host.routes) for host in publisher.published.snapshot.hosts}
        assert routes == {"bad.example": 0, "shop.example": 1}
        events = "/apis/events.k8s.io/v1/namespaces/shop/events"
        await eventually(lambda: [one["reason"] for one in api.objects.of(events)] == ["RejectedByProxy"])


async def test_the_metrics_tell_what_the_operator_does(api: FakeApi) -> None:
    api.apply(ingress("broken", host="broken.example", service="missing"))
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        await eventually(lambda: operator.app.leader.leading)
        operator.proxy()
        operator.proxy("behind", 0)
        await eventually(lambda: len(api.patches) == 2)
        _, text = await operator.get("/metrics")
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        expected = {
            'portway_operator_objects{kind="Ingress"}': 2,
            'portway_operator_objects{kind="EndpointSlice"}': 1,
            'portway_operator_lists_total{kind="Service"}': 1,
            'portway_operator_watches_total{kind="Service"}': 1,
            "portway_operator_kopf_restarts_total": 0,
            "portway_operator_compile_seconds_count": 1,
            'portway_operator_snapshot_parts{part="hosts"}': 2,
            'portway_operator_snapshot_parts{part="endpoints"}': 1,
            'portway_operator_problems{code="service_missing",severity="error"}': 1,
            "portway_operator_generation": 1,
            'portway_operator_proxy_generation{proxy="portway-proxy-1"}': 1,
            'portway_operator_proxy_generation{proxy="behind"}': 0,
            'portway_operator_proxy_lag_seconds{proxy="portway-proxy-1"}': 0,
            "portway_operator_rejections_total": 0,
            "portway_operator_leader": 1,
            'portway_operator_writes_total{resource="ingresses/status"}': 2,
        }
        assert {name: float(samples.get(name, "nan")) for name in expected} == expected
        assert float(samples['portway_operator_proxy_lag_seconds{proxy="behind"}']) > 0
        assert float(samples["portway_operator_kopf_heartbeat_age_seconds"]) < 60
        api.fault = lambda _: web.json_response({"message": "etcd is away"}, status=500)
        api.hang_up()
        await eventually(lambda: operator.app.source.counters.refusals)
        _, text = await operator.get("/metrics")
        assert 'portway_operator_api_errors_total{code="500"}' in text


@asynccontextmanager
async def beating() -> AsyncIterator[Heartbeat]:
    tasks, heartbeat = Tasks(), Heartbeat()
    tasks.spawn(heartbeat.run(), "heartbeat")
    await asyncio.sleep(0)
    yield heartbeat
    await tasks.close()


async def test_a_late_loop_is_measured() -> None:
    async with beating() as heartbeat:
        # What blocks a loop is exactly what is measured.
        signal.sigtimedwait([], 0.5)
        await eventually(lambda: heartbeat.lag > 0.4)
        assert heartbeat.busy < 0.4, "it was not at work"


async def test_what_a_late_loop_did_itself_is_told_apart() -> None:
    async with beating() as heartbeat:
        until = time.thread_time() + 0.3
        while time.thread_time() < until:
            pass
        await eventually(lambda: heartbeat.busy > 0.2)
        assert heartbeat.lag >= heartbeat.busy


async def test_an_operator_that_ends_gives_the_lease_back(api: FakeApi) -> None:
    async with operating(api) as operator:
        await eventually(lambda: operator.app.leader.leading)
        assert api.objects.by_path[LEASE]["spec"]["holderIdentity"].startswith("portway-operator-1_")
    assert api.objects.by_path[LEASE]["spec"]["holderIdentity"] == ""


async def test_a_signal_ends_an_operator_in_order(api: FakeApi) -> None:
    app = OperatorApp(Connection(api.url), SETTINGS)
    with app.heeding_signals():
        await app.start()
        task = asyncio.get_running_loop().create_task(app.run_until_stopped())
        await eventually(lambda: app.leader.leading)
        signal.raise_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await task
    assert api.objects.by_path[LEASE]["spec"]["holderIdentity"] == ""
    assert app.unready() == "stopping"


async def test_a_port_in_use_ends_the_start_and_leaves_nothing_open(api: FakeApi) -> None:
    async with operating(api) as operator:
        second = OperatorApp(Connection(api.url), replace(SETTINGS, health_port=operator.app.health_port))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()


PODS = "/api/v1/namespaces/portway/pods"
WITH_PODS = replace(SETTINGS, pods=OwnPods("operator-1", "portway", "app=operator", "app=proxy"))


def pod(name: str, app: str, *, leaving: bool = False) -> Raw:
    meta: Raw = {"name": name, "labels": {"app": app}}
    if leaving:
        meta["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"metadata": meta, "spec": {}, "status": {"phase": "Running", "conditions": []}}


@pytest.mark.parametrize(
    ("others", "cleared"),
    [
        ([], True),
        ([pod("operator-2", "operator", leaving=True), pod("proxy-1", "proxy", leaving=True)], True),
        ([pod("operator-2", "operator")], False),
        ([pod("proxy-1", "proxy")], False),
    ],
)
async def test_statuses_are_emptied_only_when_the_last_pod_ends(api: FakeApi, others: list[Raw], cleared: bool) -> None:
    for raw in (pod("operator-1", "operator", leaving=True), *others):
        api.objects.put(PODS, raw)
    async with operating(api, WITH_PODS) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy()
        await eventually(lambda: len(api.patches) == 1)
    assert len(api.patches) == 1 + cleared


@pytest.mark.parametrize(
    "settings",
    [
        replace(WITH_PODS, status=StatusSettings(addresses=("192.0.2.1",), clear=False)),
        replace(SETTINGS, status=StatusSettings(addresses=("192.0.2.1",))),
    ],
)
async def test_statuses_stay_when_nobody_can_know_whether_a_pod_is_left(
    api: FakeApi, settings: OperatorSettings
) -> None:
    async with operating(api, settings) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy()
        await eventually(lambda: len(api.patches) == 1)
    assert len(api.patches) == 1


# --- wait-applied


async def ask(operator: Running, name: str, seconds: float = 10.0) -> Answer:
    """Wait for the version that an Ingress has now."""
    connection = Connection(operator.api.url)
    async with connection.session() as session:
        asked = await current_version(session, connection, Asked(Kind.INGRESS, "shop", name))
    return await wait_applied(RemoteOperator(operator.client, operator.url), asked, seconds)


async def test_waiting_ends_when_every_proxy_serves_the_version(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy("a")
        operator.proxy("b")
        assert (await ask(operator, "web")).applied
        api.apply(ingress("late", host="late.example"))
        waiting = asyncio.get_running_loop().create_task(ask(operator, "late"))
        await eventually(lambda: operator.app.publisher.version == 2)
        operator.proxy("a")
        await asyncio.sleep(0.5)
        assert not waiting.done()
        operator.proxy("b")
        answer = await waiting
        assert answer.applied
        assert [one.name for one in answer.proxies] == ["a", "b"]


async def test_waiting_in_vain_ends_with_the_one_that_lags_behind(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy("a")
        operator.proxy("b", 0)
        answer = await ask(operator, "web", 0.5)
        assert not answer.applied
        assert [one.name for one in answer.proxies if not one.applied] == ["b"]


async def test_an_operator_that_is_away_for_a_moment_is_asked_again(api: FakeApi) -> None:
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        operator.proxy("a")
        asked = Asked(Kind.INGRESS, "shop", "web")
        nowhere = await wait_applied(RemoteOperator(operator.client, "http://127.0.0.1:1"), asked, 0.3)
        assert nowhere.reason.startswith("The operator does not answer: ")


async def test_what_does_not_exist_is_not_waited_for(api: FakeApi) -> None:
    async with operating(api) as operator:
        with pytest.raises(CannotAsk, match="There is no Ingress shop/nothing"):
            await ask(operator, "nothing")


async def test_what_is_no_operator_is_not_asked_twice(api: FakeApi) -> None:
    async with aiohttp.ClientSession() as client:
        asked = Asked(Kind.INGRESS, "shop", "web")
        with pytest.raises(CannotAsk, match="404"):
            await wait_applied(RemoteOperator(client, api.url), asked, 10)
        api.fault = lambda _: web.Response(text="hello")
        with pytest.raises(CannotAsk, match="is no operator"):
            await wait_applied(RemoteOperator(client, api.url), asked, 10)


async def test_nonsense_gets_a_400(api: FakeApi) -> None:
    async with operating(api) as operator:
        for query in ("", "?kind=secret&namespace=a&name=b", "?kind=ingress&namespace=&name=b", "?kind=ingress&name=b"):
            assert (await operator.get(f"/v1/applied{query}"))[0] == 400
        found = await operator.get("/v1/applied?kind=ingress&namespace=shop&name=" + "x" * 500)
        assert found[0] == 200
        assert not msgspec.json.decode(found[1], type=Answer).applied


@pytest.mark.parametrize(
    ("text", "kind"), [("ingress/web", Kind.INGRESS), ("ing/web", Kind.INGRESS), ("Service/web", Kind.SERVICE)]
)
def test_what_is_waited_for_is_named_as_for_kubectl(text: str, kind: Kind) -> None:
    assert parse_asked(text, "shop") == Asked(kind, "shop", "web")


@pytest.mark.parametrize("text", ["web", "ingress/", "secret/web", "ingress/a/b", "ingress/..", "ingress/A"])
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="nothing to wait for"):
        parse_asked(text, "shop")


def test_an_operator_is_reached_by_its_service_or_a_url() -> None:
    connection = Connection("https://api.example")
    assert OperatorPlace.parse("http://127.0.0.1:8081/").url == "http://127.0.0.1:8081"
    assert (
        OperatorPlace.parse("ns/op").on(connection) == "https://api.example/api/v1/namespaces/ns/services/op:8081/proxy"
    )
    assert OperatorPlace.parse("ns/op:health").on(connection).endswith("/op:health/proxy")
    for text in ("op", "http://", "ftp://a", "a/b/c", "http://a?b"):
        with pytest.raises(ValueError, match="no operator"):
            OperatorPlace.parse(text)


async def test_whoever_is_elsewhere_sees_probes_and_metrics_and_no_other_page(api: FakeApi) -> None:
    open_to_all = {"/livez": 200, "/readyz": 200, "/metrics": 200, "/login": 200, "/login.css": 200}
    async with operating(api) as operator:
        await operator.becomes("/readyz", 200)
        router = operator.app._health._site._runner.app.router
        pages = {resource.canonical for resource in router.resources()}
        assert {"/v1/applied", "/history", "/explain", "/dashboard/stream"} | open_to_all.keys() <= pages
        found = {}
        for page in pages:
            path = page.replace("{generation}", "1").replace("{name}", "index.html")
            async with operator.client.get(operator.url + path, headers={"X-Forwarded-For": "192.0.2.1"}) as response:
                found[page] = response.status
                assert response.headers["Content-Security-Policy"] == CONTENT_POLICY
        assert found == dict.fromkeys(pages, 401) | open_to_all
