"""Header fields of ConfigMaps that annotations and settings name: read as they come, change and go."""

from __future__ import annotations

from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service
from cluster.pod_network import Pod
from cluster.replicas import Fleet, RunningProxy, until


def config_map(namespace: str, name: str, **data: str) -> Raw:
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


async def until_told(proxy: RunningProxy, namespace: str, status: int, **fields: str) -> None:
    async def so() -> bool:
        url = f"http://127.0.0.1:{proxy.http_port}/"
        async with proxy.client.get(url, headers={"Host": f"{namespace}.example"}) as response:
            said = {name: response.headers.get(name.replace("_", "-"), "") for name in fields}
            return (response.status, said) == (status, fields)

    await until(so, 20, f"{status} with {fields}", proxy.command)


async def test_fields_of_a_config_map_that_an_annotation_names_follow_it(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    settings = f"{namespace}/settings"
    operator = await ships.operator("--configmap", settings)
    proxy = await ships.proxy(operator)
    named = ingress(namespace)
    named["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/custom-headers": "fields"}
    await kubectl.apply(service(namespace), named)
    await kubectl.pod(namespace, "a", pod.address, app="web")
    await until_told(proxy, namespace, 503)

    allowed = {"global-allowed-response-headers": "X-Team", "add-headers": "more"}
    await kubectl.apply(config_map(namespace, "settings", **allowed))
    await kubectl.apply(config_map(namespace, "fields", **{"X-Team": "one"}))
    await until_told(proxy, namespace, 200, X_Team="one", X_More="")
    await kubectl.apply(config_map(namespace, "more", **{"X-More": "yes"}))
    await until_told(proxy, namespace, 200, X_Team="one", X_More="yes")
    await kubectl.apply(config_map(namespace, "fields", **{"X-Team": "two"}))
    await until_told(proxy, namespace, 200, X_Team="two", X_More="yes")
    await kubectl.delete("ConfigMap", "fields", namespace)
    await until_told(proxy, namespace, 503)
