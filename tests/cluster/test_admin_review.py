"""Who sees an operator's pages from another address: whom the real API server knows and allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cluster.kubectl import Kubectl, Raw
from cluster.operating import service
from cluster.pod_network import Pod, PodNetwork
from cluster.replicas import Fleet, Replica, shop
from cluster.rights import NAMESPACE
from cluster.wire import Wire
from portway_operator.admin_review import ADMIN_AUDIENCE
from wire.command import portway

PAGE = "/v1/applied?kind=ingress&namespace=shop&name=web"
FILED = "correct-horse-battery-staple"


async def asked(fleet: Fleet, url: str, path: str, token: str = "") -> tuple[int, str]:
    """Return status and text of a page."""
    fields = {"Authorization": f"Bearer {token}"} if token else {}
    async with fleet.client.get(url + path, headers=fields) as response:
        return response.status, (await response.text()).strip()


async def account(kubectl: Kubectl, namespace: str, name: str, *bindings: Raw) -> str:
    """Return a token for operators of a new account, which the bindings are for."""
    named = {"name": name, "namespace": namespace}
    await kubectl.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named}, *bindings)
    return await kubectl.token(namespace, name, ADMIN_AUDIENCE)


def binding(name: str, subject: Raw) -> Raw:
    """Return a binding of the role that may look."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "portway-viewer"},
        "subjects": [subject],
    }


def bound(role: str, namespace: str, subject: Raw) -> Raw:
    """Return a binding of a Role to a subject."""
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": f"{role}-{subject['namespace']}", "namespace": namespace},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": role},
        "subjects": [subject],
    }


async def elsewhere(ships: Fleet, pod_network: PodNetwork, *flags: str, server: str = "") -> tuple[Replica, str]:
    """Start an operator, and return it and where others than its machine reach it."""
    operator = await ships.operator("--health-address", "0.0.0.0", *flags, server=server)
    await operator.ready()
    return operator, f"http://{pod_network.outer}:{operator.health_port}"


async def test_whom_the_cluster_allows_it_sees_the_pages(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod_network: PodNetwork
) -> None:
    operator, url = await elsewhere(ships, pod_network)
    assert (await operator.get(PAGE))[0] == 200, "this machine needs no token"
    assert [(await asked(ships, url, path))[0] for path in ("/livez", "/readyz", "/metrics", PAGE)] == [200] * 3 + [401]

    viewer = await kubectl.token(NAMESPACE, "portway-viewer", ADMIN_AUDIENCE)
    assert (await asked(ships, url, PAGE, viewer))[0] == 200
    group: Raw = {
        "kind": "Group",
        "name": f"system:serviceaccounts:{namespace}",
        "apiGroup": "rbac.authorization.k8s.io",
    }
    of_group = await account(kubectl, namespace, "one-of-many", binding(f"lookers-of-{namespace}", group))
    assert (await asked(ships, url, PAGE, of_group))[0] == 200


async def test_whom_the_cluster_does_not_know_or_allow_sees_nothing(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod_network: PodNetwork
) -> None:
    _, url = await elsewhere(ships, pod_network)
    stranger = await account(kubectl, namespace, "stranger")
    status, said = await asked(ships, url, PAGE, stranger)
    assert status == 403
    assert said.startswith(f"system:serviceaccount:{namespace}:stranger may not get /portway/admin: ")
    for audiences in ([], ["portway-config"]):
        for_others = await kubectl.token(NAMESPACE, "portway-viewer", *audiences)
        status, said = await asked(ships, url, PAGE, for_others)
        assert (status, said) == (401, "The token does not count: the token is not for the audience portway-admin.")
    viewer = await kubectl.token(NAMESPACE, "portway-viewer", ADMIN_AUDIENCE)
    head, claims, signature = viewer.split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    assert (await asked(ships, url, PAGE, forged))[0] == 401
    assert (await asked(ships, url, PAGE, "guess"))[0] == 401


async def test_the_role_of_viewers_is_enough_to_wait_for_an_object_by_way_of_the_api_server(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, pod_network: PodNetwork, tmp_path: Path
) -> None:
    await shop(kubectl, namespace, pod)
    operator, _ = await elsewhere(ships, pod_network, "--publish-status-address", "192.0.2.1")
    await ships.proxy(operator)
    await kubectl.pod(NAMESPACE, "operator-1", pod_network.outer, app="operator")
    front = service(NAMESPACE, "portway-operator", "operator", operator.health_port)
    front["spec"]["ports"][0]["port"] = 8081
    await kubectl.apply(front)
    await account(kubectl, namespace, "pipeline")
    config = tmp_path / "kubeconfig"
    token = await kubectl.token(namespace, "pipeline")
    config.write_text(yaml.safe_dump(ships.kubeconfig({"token": token}, namespace)))
    arguments = ["ingress/web", "-n", namespace, "--kubeconfig", str(config), "--timeout", "15s"]

    async def waited() -> tuple[int, str]:
        async with portway("wait-applied", *arguments) as command:
            return await command.ended(), command.said

    subject = {"kind": "ServiceAccount", "name": "pipeline", "namespace": namespace}
    group = "rbac.authorization.k8s.io"
    reading: Raw = {
        "apiVersion": f"{group}/v1",
        "kind": "Role",
        "metadata": {"name": "reading", "namespace": namespace},
        "rules": [{"apiGroups": ["networking.k8s.io"], "resources": ["ingresses"], "verbs": ["get"]}],
    }
    await kubectl.apply(reading, bound("reading", namespace, subject))
    status, said = await waited()
    assert (status, "services" in said) == (2, True), said
    await kubectl.apply(bound("portway-viewer", NAMESPACE, subject))
    assert await waited() == (0, f"Ingress {namespace}/web is served by 1 proxy")


async def test_a_proxy_asks_its_operator_whom_the_cluster_allows_it(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod_network: PodNetwork
) -> None:
    operator = await ships.operator()
    proxy = await ships.proxy(operator, flags=("--admin-address", "0.0.0.0"))
    url = f"http://{pod_network.outer}:{proxy.admin_port}"
    assert (await proxy.page("/routes"))[0] == 200, "this machine needs no token"
    assert [(await asked(ships, url, path))[0] for path in ("/healthz", "/metrics", "/routes")] == [200, 200, 401]
    viewer = await kubectl.token(NAMESPACE, "portway-viewer", ADMIN_AUDIENCE)
    assert (await asked(ships, url, "/routes", viewer))[0] == 200
    stranger = await account(kubectl, namespace, "stranger")
    assert (await asked(ships, url, "/routes", stranger))[0] == 403
    for_proxies = await kubectl.token(NAMESPACE, "portway-proxy", "portway-config")
    assert (await asked(ships, url, "/routes", for_proxies))[0] == 401
    await operator.command.stop()
    unknown = await kubectl.token(NAMESPACE, "portway-viewer", ADMIN_AUDIENCE)
    assert (await asked(ships, url, "/routes", unknown))[0] == 503


async def test_without_an_api_server_the_token_of_the_file_still_counts(
    ships: Fleet, kubectl: Kubectl, pod_network: PodNetwork, wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "admin-token"
    file.write_text(FILED)
    server = f"https://127.0.0.1:{wire.port}"
    _, url = await elsewhere(ships, pod_network, "--admin-token-file", str(file), server=server)
    viewer = await kubectl.token(NAMESPACE, "portway-viewer", ADMIN_AUDIENCE)
    await wire.cut()
    assert (await asked(ships, url, PAGE, FILED))[0] == 200
    assert await asked(ships, url, PAGE, viewer) == (503, "The API server cannot be asked about the token now.")


@pytest.mark.parametrize(("flags", "status"), [((), 401), (("--no-admin-review",), 403)])
async def test_without_review_and_token_there_is_no_way_in(
    ships: Fleet, kubectl: Kubectl, pod_network: PodNetwork, flags: tuple[str, ...], status: int
) -> None:
    _, url = await elsewhere(ships, pod_network, *flags, "--admin-protect-metrics")
    assert [(await asked(ships, url, path))[0] for path in ("/readyz", "/metrics", PAGE)] == [200, status, status]
