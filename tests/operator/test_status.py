"""`status.py`, `applied.py`, `public_addresses.py` and `pods.py`: statuses on a fake API server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise

import pytest
import pytest_asyncio
from aiohttp import web

from eventually import eventually
from fake_api import FakeApi, Raw, ingress, ingress_class, service, serving
from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.applied import Applied
from portway_operator.compile import compile_snapshot
from portway_operator.decode import decode
from portway_operator.objects import Kind, PublicAddress, Service
from portway_operator.pods import Node, Pod, Pods
from portway_operator.public_addresses import (
    Addresses,
    FixedAddresses,
    NodeAddresses,
    PublicAddresses,
    ServiceAddresses,
    of_service,
)
from portway_operator.settings import CompileSettings
from portway_operator.sources.connection import Connection
from portway_operator.status import Status, StatusPace
from portway_operator.store import ObjectStore
from portway_proxy.tasks import Tasks

SETTINGS = CompileSettings(controller="portway.dev/ingress")
QUICK = StatusPace(rate=1000, pause=0.01)
HERE = FixedAddresses(["192.0.2.1"])
WEB = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/web/status"


@dataclass
class Leads:
    leading: bool = True


def l4_service(name: str = "db") -> Raw:
    raw = service(name, port=5432)
    raw["spec"] |= {"type": "LoadBalancer", "loadBalancerClass": "portway.dev/l4"}
    return raw


class Scene:
    """A status writer whose store has what the fake API server has, whenever `publish` says so."""

    def __init__(self, api: FakeApi, objects: ApiObjects, addresses: PublicAddresses, pace: StatusPace) -> None:
        self.api = api
        self.objects = objects
        self.store = ObjectStore()
        self.applied = Applied()
        self.leads = Leads()
        self.version = 0
        self.status = Status(objects, self.leads, addresses, self.store, self.applied, pace)

    def watch(self) -> None:
        """Bring the store up to date, as watches do."""
        for kind in (Kind.INGRESS, Kind.INGRESS_CLASS, Kind.SERVICE):
            found = [decode(raw) for raw in self.api.all(kind)]
            self.store.replace_all(kind, [one for one in found if one is not None])

    def publish(self) -> None:
        """Bring the store up to date and publish what it comes to as the next version."""
        self.watch()
        self.version += 1
        self.applied.settle(compile_snapshot(self.store, SETTINGS), self.version)
        self.status.poke()

    def acknowledge(self) -> None:
        """Let a proxy serve what was published."""
        if self.applied.acknowledge(self.version):
            self.status.poke()

    def written(self, name: str = "web", kind: Kind = Kind.INGRESS) -> object:
        [raw] = [raw for raw in self.api.all(kind) if raw["metadata"]["name"] == name]
        return raw.get("status", {}).get("loadBalancer", {}).get("ingress")

    async def settled(self) -> None:
        """Wait long enough for several looks."""
        await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def api() -> AsyncIterator[FakeApi]:
    async with serving() as api:
        for raw in (ingress_class(), service(), ingress("web")):
            api.apply(raw)
        yield api


@asynccontextmanager
async def running(
    api: FakeApi, addresses: PublicAddresses = HERE, pace: StatusPace = QUICK, *, served: bool = True
) -> AsyncIterator[Scene]:
    connection, tasks = Connection(api.url), Tasks()
    async with connection.session() as session:
        scene = Scene(api, ApiObjects(session, connection), addresses, pace)
        if served:
            scene.publish()
            scene.acknowledge()
        tasks.spawn(scene.status.run(), "status")
        try:
            yield scene
        finally:
            await tasks.close()


async def test_a_status_is_written_only_after_a_proxy_serves_the_ingress(api: FakeApi) -> None:
    async with running(api, served=False) as scene:
        scene.publish()
        await scene.settled()
        assert api.patches == []
        scene.acknowledge()
        await eventually(lambda: scene.written() == [{"ip": "192.0.2.1"}])
        assert [path for path, _ in api.patches] == [WEB]


async def test_an_ingress_that_is_younger_than_what_proxies_serve_waits(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        api.apply(ingress("late", host="late.example"))
        scene.publish()
        await scene.settled()
        assert scene.written("late") is None
        scene.acknowledge()
        await eventually(lambda: scene.written("late"))


async def test_a_namesake_made_later_is_another_ingress(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        api.delete(Kind.INGRESS, "shop", "web")
        api.apply(ingress("web"))
        scene.publish()
        await scene.settled()
        assert scene.written() is None
        scene.acknowledge()
        await eventually(scene.written)


async def test_a_namesake_made_while_we_write_is_left_to_the_next_look(api: FakeApi) -> None:
    async with running(api, served=False) as scene:
        scene.publish()
        api.delete(Kind.INGRESS, "shop", "web")
        api.apply(ingress("web"))
        scene.acknowledge()
        await eventually(lambda: scene.objects.errors == {"422": 1})
        assert scene.written() is None
        scene.publish()
        scene.acknowledge()
        await eventually(scene.written)


async def test_only_the_leader_writes(api: FakeApi) -> None:
    async with running(api, served=False) as scene:
        scene.leads.leading = False
        scene.publish()
        scene.acknowledge()
        await scene.settled()
        assert api.patches == []
        scene.leads.leading = True
        scene.status.poke()
        await eventually(scene.written)


async def test_what_is_right_is_not_written_again(api: FakeApi) -> None:
    api.apply({**ingress("web"), "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})
    async with running(api) as scene:
        for _ in range(3):
            await scene.settled()
            scene.publish()
        assert api.patches == []


async def test_our_own_write_is_not_repeated_while_the_watch_lags_behind(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        for _ in range(5):
            scene.status.poke()
            await asyncio.sleep(0.03)
        assert len(api.patches) == 1
        scene.watch()
        scene.status.poke()
        await scene.settled()
        assert len(api.patches) == 1


async def test_what_others_change_is_mended_at_the_next_look(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        api.apply({**ingress("web"), "status": {"loadBalancer": {"ingress": [{"hostname": "elsewhere.example"}]}}})
        scene.watch()
        await scene.settled()
        assert len(api.patches) == 1, "no fight: a minute passes before the next look without a cause"
        scene.status.poke()
        await eventually(lambda: scene.written() == [{"ip": "192.0.2.1"}])


async def test_ingresses_of_other_classes_are_never_touched(api: FakeApi) -> None:
    other = ingress("other", host="other.example")
    other["spec"]["ingressClassName"] = "nginx"
    api.apply({**other, "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}})
    async with running(api) as scene:
        await eventually(scene.written)
        await scene.settled()
        assert [path for path, _ in api.patches] == [WEB]


async def test_the_status_of_an_ingress_that_is_ours_no_more_is_left_alone(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        left = ingress("web")
        left["spec"]["ingressClassName"] = "nginx"
        api.apply({**left, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}})
        scene.publish()
        scene.acknowledge()
        await scene.settled()
        await scene.status.clear()
        assert len(api.patches) == 1


async def test_an_ingress_that_left_us_since_it_was_compiled_is_not_written(api: FakeApi) -> None:
    async with running(api, served=False) as scene:
        scene.publish()
        left = ingress("web")
        left["spec"]["ingressClassName"] = "nginx"
        api.apply(left)
        scene.watch()
        scene.acknowledge()
        await scene.settled()
        assert api.patches == []


async def test_a_layer_4_service_gets_the_address_that_kube_proxy_leaves_to_us(api: FakeApi) -> None:
    api.apply(l4_service())
    api.apply({**l4_service("late"), "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}})
    async with running(api) as scene:
        await eventually(lambda: scene.written("db", Kind.SERVICE) == [{"ip": "192.0.2.1", "ipMode": "Proxy"}])
        # The older one has the port.
        await eventually(lambda: scene.written("late", Kind.SERVICE) is None)
        assert scene.written("web", Kind.SERVICE) is None


async def test_only_the_status_is_written_and_only_of_this_very_object(api: FakeApi) -> None:
    async with running(api) as scene:
        await eventually(scene.written)
        [(_, patch)] = api.patches
        uid = api.all(Kind.INGRESS)[0]["metadata"]["uid"]
        assert patch == {"metadata": {"uid": uid}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}


async def test_a_write_that_fails_is_tried_again(api: FakeApi) -> None:
    fail = 3

    def fault(request: web.Request) -> web.Response | None:
        nonlocal fail
        if request.method != "PATCH" or not fail:
            return None
        fail -= 1
        return web.json_response({"message": "etcd is slow"}, status=500)

    api.fault = fault
    async with running(api) as scene:
        await eventually(scene.written)
        assert fail == 0
        assert scene.objects.errors == {"500": 3}
        assert scene.objects.written == {"ingresses/status": 1}


async def test_an_object_that_the_api_server_will_not_take_costs_no_other_one(api: FakeApi) -> None:
    api.apply(ingress("bad", host="bad.example"))
    refused = 0

    def fault(request: web.Request) -> web.Response | None:
        nonlocal refused
        if request.method != "PATCH" or "/bad/" not in request.path:
            return None
        refused += 1
        return web.json_response({"message": "invalid"}, status=422)

    api.fault = fault
    async with running(api) as scene:
        await eventually(scene.written)
        for _ in range(3):
            await scene.settled()
            scene.status.poke()
        assert refused == 1


async def test_an_outage_in_the_midst_of_writing_loses_nothing(api: FakeApi) -> None:
    for number in range(40):
        api.apply(ingress(f"n{number}", host=f"n{number}.example"))
    async with running(api, pace=StatusPace(rate=100, pause=0.01)) as scene:
        await eventually(lambda: len(api.patches) > 10)
        await api.stop()
        await asyncio.sleep(0.2)
        await api.start()
        await eventually(lambda: all(scene.written(f"n{number}") for number in range(40)), 20)


async def test_no_more_is_written_than_the_rate_allows(api: FakeApi) -> None:
    for number in range(30):
        api.apply(ingress(f"n{number}", host=f"n{number}.example"))
    times: list[float] = []

    def fault(request: web.Request) -> web.Response | None:
        if request.method == "PATCH":
            times.append(asyncio.get_running_loop().time())
        return None

    api.fault = fault
    async with running(api, pace=StatusPace(rate=50, at_once=5, pause=0.01)):
        await eventually(lambda: len(times) == 31)
    # In the end each was a fiftieth of a second after the one before: nothing is said of how slow it may be.
    assert times[-1] - times[5] >= 25 / 50 * 0.9
    assert all(after >= before for before, after in pairwise(times))


async def test_a_new_ingress_does_not_wait_for_thousands_of_old_ones(api: FakeApi) -> None:
    for number in range(300):
        api.apply(ingress(f"n{number}", host=f"n{number}.example"))
    async with running(api, pace=StatusPace(rate=400, pause=0.01)) as scene:
        await eventually(lambda: len(api.patches) > 20)
        api.apply(ingress("late", host="late.example"))
        scene.publish()
        scene.acknowledge()
        await eventually(lambda: scene.written("late"))
        assert len(api.patches) < 250


async def test_leadership_that_is_lost_in_the_midst_stops_the_writing(api: FakeApi) -> None:
    for number in range(50):
        api.apply(ingress(f"n{number}", host=f"n{number}.example"))
    async with running(api, pace=StatusPace(rate=50, at_once=5, pause=0.01)) as scene:
        await eventually(lambda: len(api.patches) > 5)
        scene.leads.leading = False
        await asyncio.sleep(0.05)
        count = len(api.patches)
        await asyncio.sleep(0.3)
        assert len(api.patches) == count


class Moving:
    """Addresses that a test changes."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Addresses | None = tuple(PublicAddress(ip=address) for address in addresses)
        self.trouble = ""

    async def find(self) -> Addresses | None:
        if self.trouble:
            raise ApiUnavailable(self.trouble)
        return self.addresses

    def glance(self) -> Addresses | None:
        return self.addresses


async def test_other_addresses_are_written_without_being_told(api: FakeApi) -> None:
    moving = Moving("192.0.2.1")
    async with running(api, moving) as scene:
        await eventually(scene.written)
        moving.addresses = (PublicAddress(ip="192.0.2.2"), PublicAddress(hostname="lb.example"))
        await eventually(lambda: scene.written() == [{"ip": "192.0.2.2"}, {"hostname": "lb.example"}])
        moving.addresses = ()
        await eventually(lambda: scene.written() is None)


async def test_addresses_that_cannot_be_known_leave_statuses_as_they_are(api: FakeApi) -> None:
    moving = Moving("192.0.2.1")
    async with running(api, moving) as scene:
        await eventually(scene.written)
        moving.addresses = None
        scene.status.poke()
        await scene.settled()
        moving.addresses, moving.trouble = (PublicAddress(ip="192.0.2.2"),), "the API server is away"
        await scene.settled()
        assert len(api.patches) == 1
        moving.trouble = ""
        await eventually(lambda: scene.written() == [{"ip": "192.0.2.2"}])


async def test_clearing_empties_what_we_wrote_and_nothing_else(api: FakeApi) -> None:
    api.apply(l4_service())
    async with running(api) as scene:
        await eventually(lambda: scene.written() and scene.written("db", Kind.SERVICE))
        api.apply(ingress("strange", host="strange.example"))
        scene.publish()
        scene.leads.leading = False
        await scene.status.clear()
        assert scene.written()
        scene.leads.leading = True
        await scene.status.clear()
        assert scene.written() is None
        assert scene.written("db", Kind.SERVICE) is None
        assert len(api.patches) == 4


# --- addresses


def read_service(**spec: object) -> Service:
    raw = service()
    raw["spec"] |= spec
    raw["status"] = {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"hostname": "lb.example"}]}}
    found = decode(raw)
    assert isinstance(found, Service)
    return found


def addresses(*ips: str, hostname: str = "") -> Addresses:
    found = [PublicAddress(ip=ip) for ip in ips] + ([PublicAddress(hostname=hostname)] if hostname else [])
    return tuple(sorted(found))


# ingress-nginx, internal/ingress/status: statusAddressFromService.
@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"type": "ClusterIP"}, addresses("10.0.0.7")),
        ({"type": "ClusterIP", "clusterIPs": ["10.0.0.7", "fd00::7"]}, addresses("10.0.0.7", "fd00::7")),
        ({"type": "ClusterIP", "clusterIP": "None"}, ()),
        ({"type": "NodePort"}, addresses("10.0.0.7")),
        ({"type": "NodePort", "externalIPs": ["203.0.113.1"]}, addresses("203.0.113.1")),
        ({"type": "LoadBalancer"}, addresses("192.0.2.7", hostname="lb.example")),
        (
            {"type": "LoadBalancer", "externalIPs": ["203.0.113.1", "192.0.2.7"]},
            addresses("192.0.2.7", "203.0.113.1", hostname="lb.example"),
        ),
        ({"type": "ExternalName", "externalName": "Edge.example"}, addresses(hostname="edge.example")),
        ({"type": "ExternalName", "externalName": "203.0.113.5"}, addresses("203.0.113.5")),
    ],
)
def test_a_service_is_reached_where_its_type_says(spec: dict[str, object], expected: Addresses) -> None:
    assert of_service(read_service(**spec)) == expected


async def test_a_missing_service_says_nothing_about_addresses() -> None:
    store = ObjectStore()
    found = ServiceAddresses(store.services, "shop", "web")
    assert await found.find() is None
    store.put(read_service(type="LoadBalancer"))
    assert found.glance() == await found.find() == addresses("192.0.2.7", hostname="lb.example")


def pod(name: str, node: str, *, ready: bool = True, leaving: bool = False, phase: str = "Running") -> Raw:
    metadata: Raw = {"name": name, "labels": {"app": "portway", "part": "proxy"}}
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": metadata, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": conditions}}


PODS, NODES = "/api/v1/namespaces/portway/pods", "/api/v1/nodes"


def node(name: str, **by_type: str) -> Raw:
    found = [{"type": kind, "address": address} for kind, address in by_type.items()]
    return {"metadata": {"name": name}, "status": {"addresses": found}}


@pytest_asyncio.fixture
async def pods(api: FakeApi) -> AsyncIterator[Pods]:
    for raw in (
        pod("a", "n1"),
        pod("b", "n2", ready=False),
        pod("c", "n3", leaving=True),
        pod("d", "n3", phase="Failed"),
        {**pod("e", "n2"), "metadata": {"name": "e", "labels": {"app": "portway"}}},
        pod("f", "n4"),
    ):
        api.objects.put(PODS, raw)
    api.objects.put(NODES, node("n1", Hostname="n1", InternalIP="10.0.0.1", ExternalIP="203.0.113.1"))
    api.objects.put(NODES, node("n2", InternalIP="10.0.0.2", ExternalIP="203.0.113.2"))
    api.objects.put(NODES, node("n4", InternalIP="10.0.0.4"))
    connection = Connection(api.url)
    async with connection.session() as session:
        yield Pods(ApiObjects(session, connection), "portway")


async def test_pods_are_found_by_their_labels(pods: Pods) -> None:
    assert await pods.find("app=portway,part=proxy") == [
        Pod("a", "n1", ready=True),
        Pod("b", "n2"),
        Pod("c", "n3", leaving=True),
        Pod("f", "n4", ready=True),
    ]
    assert await pods.find("app=other") == []


async def test_a_node_that_is_gone_has_no_addresses(pods: Pods) -> None:
    assert await pods.node("n1") == Node(("10.0.0.1",), ("203.0.113.1",))
    assert await pods.node("n9") == Node()


async def test_the_nodes_of_ready_proxies_are_reached_from_outside_where_that_is_possible(pods: Pods) -> None:
    outside = NodeAddresses(pods, "part=proxy", internal=False)
    assert await outside.find() == addresses("10.0.0.4", "203.0.113.1")
    inside = NodeAddresses(pods, "part=proxy", internal=True)
    assert await inside.find() == addresses("10.0.0.1", "10.0.0.4")
    assert inside.glance() is None


async def test_without_a_ready_proxy_nothing_is_known_about_nodes(pods: Pods) -> None:
    assert await NodeAddresses(pods, "part=nothing", internal=False).find() is None


async def test_garbage_instead_of_pods_is_trouble_and_no_crash(api: FakeApi, pods: Pods) -> None:
    api.fault = lambda _: web.json_response({"items": "none"})
    with pytest.raises(ApiUnavailable, match="no list of pods"):
        await pods.find("part=proxy")
    api.fault = lambda _: web.json_response({"status": {"addresses": [1]}})
    with pytest.raises(ApiUnavailable, match="no node"):
        await pods.node("n1")


async def test_fixed_addresses_are_ips_or_names() -> None:
    fixed = FixedAddresses(["LB.example.", "2001:DB8::1", "192.0.2.1", "192.0.2.1"])
    assert fixed.glance() == await fixed.find() == addresses("192.0.2.1", "2001:db8::1", hostname="lb.example")
