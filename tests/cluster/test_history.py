"""`portway history` of an operator on a real API server: who changed what, by the managedFields that it delivers."""

from __future__ import annotations

import re

import msgspec

from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service
from cluster.replicas import Fleet, Replica, until
from portway_proxy.history import MOST, Action, Generation
from wire.command import portway


def slice_of(namespace: str, address: str) -> Raw:
    meta = {"name": "web-1", "namespace": namespace, "labels": {"kubernetes.io/service-name": "web"}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": meta,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


async def rows(operator: Replica) -> list[Generation]:
    status, body = await operator.get("/history?format=json")
    assert status == 200
    return msgspec.json.decode(body, type=list[Generation])


async def told(operator: Replica, said: str) -> Generation:
    """Return the row with a cause that reads so, but for the time."""
    found: list[Generation] = []

    async def there() -> bool:
        causes = [(row, str(cause).partition(" at ")[0]) for row in await rows(operator) for cause in row.causes]
        found[:] = [row for row, cause in causes if cause == said]
        return bool(found)

    await until(there, 20, f"a generation is told to be caused by: {said}", operator.command)
    return found[0]


async def printed(operator: Replica, *arguments: str) -> list[str]:
    async with portway("history", *arguments, "--admin", operator.url) as command:
        assert await command.ended() == 0, command.said
    return command.out


async def shop(kubectl: Kubectl, namespace: str) -> None:
    """Have a Service whose endpoints are ours to write."""
    plain = service(namespace)
    del plain["spec"]["selector"]
    await kubectl.apply(plain, slice_of(namespace, "10.9.0.1"))


async def test_who_applied_an_ingress_is_told_by_name_and_time(ships: Fleet, kubectl: Kubectl, namespace: str) -> None:
    await shop(kubectl, namespace)
    operator = await ships.operator()
    await operator.ready()
    name = f"Ingress {namespace}/web"
    await kubectl.apply(ingress(namespace), manager="helm")
    assert (await told(operator, f"{name} created by helm")).summary == "1 route new"
    applied = await kubectl.apply(ingress(namespace, path="/shop"), manager="alice")
    row = await told(operator, f"{name} changed by alice")
    (cause,) = row.causes
    (entry,) = [one for one in applied["metadata"]["managedFields"] if one["manager"] == "alice"]
    assert cause.at.isoformat() == entry["time"].replace("Z", "+00:00")
    assert cause.at.timestamp() <= row.at.timestamp() <= cause.at.timestamp() + 10
    await kubectl.delete("Ingress", "web", namespace)
    gone = await told(operator, f"{name} deleted")
    assert [(one.action, one.manager) for one in gone.causes] == [(Action.DELETED, "")]
    lines = await printed(operator, "show", str(row.generation))
    assert re.fullmatch(rf"generation {row.generation} at .* UTC: 1 route new, 1 route gone \({row.digest}\)", lines[0])
    assert lines[1] == f"  {cause}"
    assert "Traffic lost (1)" in lines


async def test_a_storm_of_endpoints_is_one_row_and_pushes_nobody_out(
    ships: Fleet, kubectl: Kubectl, namespace: str
) -> None:
    await shop(kubectl, namespace)
    operator = await ships.operator()
    await operator.ready()
    await kubectl.apply(ingress(namespace), manager="alice")
    alice = await told(operator, f"Ingress {namespace}/web created by alice")
    number = 0
    while (await rows(operator))[0].generation <= alice.generation + MOST:
        number += 1
        await kubectl.apply(slice_of(namespace, f"10.9.{number // 250 + 1}.{number % 250 + 1}"))
        assert number < 2000
    storm = next(row for row in await rows(operator) if row.first == alice.generation + 1)
    assert storm.endpoints
    assert storm.generation > alice.generation + MOST
    assert {(one.kind, one.name, one.manager) for one in storm.causes} == {("EndpointSlice", "web-1", "tests")}
    assert alice in await rows(operator)
    (line,) = [one for one in await printed(operator) if one.startswith(f"generation {storm.first}-")]
    assert f"endpoints of {namespace}/web:80" in line


async def test_a_secret_that_is_named_only_now_is_read_and_its_content_not_told(
    ships: Fleet, kubectl: Kubectl, namespace: str
) -> None:
    await shop(kubectl, namespace)
    users = {"apiVersion": "v1", "kind": "Secret", "stringData": {"auth": "alice:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="}}
    await kubectl.apply(users | {"metadata": {"name": "users", "namespace": namespace}}, manager="bob")
    operator = await ships.operator()
    await operator.ready()
    guarded = ingress(namespace)
    nginx = "nginx.ingress.kubernetes.io"
    guarded["metadata"]["annotations"] = {f"{nginx}/auth-type": "basic", f"{nginx}/auth-secret": "users"}
    await kubectl.apply(guarded, manager="alice")
    await told(operator, f"Ingress {namespace}/web created by alice")
    row = await told(operator, f"Secret {namespace}/users read")
    users["stringData"] = {"auth": "alice:{SHA}nU4eI71bcnBGqeO0t9tXvY1u5oQ="}
    await kubectl.apply(users | {"metadata": {"name": "users", "namespace": namespace}}, manager="bob")
    changed = await told(operator, f"Secret {namespace}/users changed by bob")
    pages = [(await operator.get(f"/history/{one.generation}?format=json"))[1] for one in (row, changed)]
    assert pages[0] != pages[1]
    assert not any("SHA" in page for page in pages)
    assert all("fingerprint:" in page for page in pages)
