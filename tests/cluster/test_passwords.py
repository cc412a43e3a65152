"""Passwords of a Secret that an annotation names: read as it comes, changes and goes, and no other Secret with it."""

from __future__ import annotations

import asyncio
import base64
from urllib.parse import unquote

import bcrypt
import pytest

from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service
from cluster.pod_network import Pod
from cluster.replicas import Fleet, RunningProxy, until
from cluster.rights import USER

ANNOTATIONS = {
    "nginx.ingress.kubernetes.io/auth-type": "basic",
    "nginx.ingress.kubernetes.io/auth-secret": "users",
}


def guarded(namespace: str, **annotations: str) -> Raw:
    found = ingress(namespace)
    found["metadata"]["annotations"] = ANNOTATIONS | annotations
    return found


def users(namespace: str, password: str, name: str = "users") -> Raw:
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(4))
    data = {"auth": base64.b64encode(b"ada:" + hashed).decode()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}


async def ask(proxy: RunningProxy, namespace: str, password: str = "") -> int:
    fields = {"Host": f"{namespace}.example"}
    if password:
        fields["Authorization"] = "Basic " + base64.b64encode(f"ada:{password}".encode()).decode()
    async with proxy.client.get(f"http://127.0.0.1:{proxy.http_port}/", headers=fields) as response:
        return response.status


async def until_answered(proxy: RunningProxy, namespace: str, password: str, status: int) -> None:
    async def so() -> bool:
        return await ask(proxy, namespace, password) == status

    await until(so, 20, f"{password!r} gets {status}", proxy.command)


@pytest.fixture
async def guarded_shop(kubectl: Kubectl, namespace: str, pod: Pod) -> str:
    """A namespace with an Ingress that asks for passwords of a Secret, which is not there yet."""
    await kubectl.apply(service(namespace), guarded(namespace))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    return namespace


async def test_a_secret_that_an_annotation_names_is_followed_as_it_comes_changes_and_goes(
    ships: Fleet, kubectl: Kubectl, guarded_shop: str
) -> None:
    operator = await ships.operator()
    proxy = await ships.proxy(operator)
    await until_answered(proxy, guarded_shop, "", 503)

    await kubectl.apply(users(guarded_shop, "one"))
    await until_answered(proxy, guarded_shop, "", 401)
    assert await ask(proxy, guarded_shop, "one") == 200

    await kubectl.apply(users(guarded_shop, "two"))
    await until_answered(proxy, guarded_shop, "two", 200)
    assert await ask(proxy, guarded_shop, "one") == 401

    await kubectl.delete("Secret", "users", guarded_shop)
    await until_answered(proxy, guarded_shop, "two", 503)
    _, problems = await proxy.page("/problems")
    assert f"no Secret {guarded_shop}/users" in problems
    assert "$2b$" not in problems + (await proxy.page("/routes"))[1] + operator.command.said + proxy.command.said


async def test_no_secret_is_read_but_the_one_that_is_named(ships: Fleet, kubectl: Kubectl, guarded_shop: str) -> None:
    await kubectl.apply(users(guarded_shop, "one"), users(guarded_shop, "other", "others"))
    before = len(ships.plane.audit(USER))
    proxy = await ships.proxy(await ships.operator())
    await until_answered(proxy, guarded_shop, "one", 200)
    asked = [unquote(entry.uri) for entry in ships.plane.audit(USER)[before:] if entry.resource == "secrets"]
    here = [uri for uri in asked if f"/namespaces/{guarded_shop}/" in uri]
    assert here
    assert [uri for uri in here if "fieldSelector=metadata.name=users" not in uri] == []
    everywhere = [uri for uri in asked if uri.startswith("/api/v1/secrets")]
    assert [uri for uri in everywhere if "fieldSelector=type=kubernetes.io/tls" not in uri] == []


async def test_a_new_operator_closes_no_path_for_the_time_until_it_knows_the_secret(
    ships: Fleet, kubectl: Kubectl, guarded_shop: str
) -> None:
    await kubectl.apply(users(guarded_shop, "one"))
    first = await ships.operator()
    proxy = await ships.proxy(first)
    await until_answered(proxy, guarded_shop, "one", 200)
    second = await ships.operator()
    other = await ships.proxy(second)
    statuses = set()

    async def served() -> bool:
        statuses.add(await ask(other, guarded_shop, "one"))
        return 200 in statuses

    await until(served, 20, "the second operator's proxy serves", other.command)
    for _ in range(20):
        statuses.add(await ask(other, guarded_shop, "one"))
        await asyncio.sleep(0.02)
    assert 503 not in statuses
    assert 200 in statuses


async def test_a_secret_of_another_namespace_opens_nothing(ships: Fleet, kubectl: Kubectl, guarded_shop: str) -> None:
    await kubectl.apply(users(guarded_shop, "one"))
    foreign = {"nginx.ingress.kubernetes.io/auth-secret": "portway/users"}
    proxy = await ships.proxy(await ships.operator())
    await until_answered(proxy, guarded_shop, "one", 200)
    await kubectl.apply(guarded(guarded_shop, **foreign))
    await until_answered(proxy, guarded_shop, "one", 503)
    assert "auth_secret_foreign" in (await proxy.page("/problems"))[1]
