"""What a person does to a cluster, by plain requests with an administrator's credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import aiohttp

from portway_operator.sources.connection import Connection

__all__ = ["Kubectl", "Raw", "kubectl_on"]

Raw: TypeAlias = dict[str, Any]

_PLURALS = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps",
    "DaemonSet": "daemonsets",
    "Deployment": "deployments",
    "EndpointSlice": "endpointslices",
    "Event": "events",
    "HorizontalPodAutoscaler": "horizontalpodautoscalers",
    "Ingress": "ingresses",
    "IngressClass": "ingressclasses",
    "Lease": "leases",
    "Namespace": "namespaces",
    "NetworkPolicy": "networkpolicies",
    "Node": "nodes",
    "Pod": "pods",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "Role": "roles",
    "RoleBinding": "rolebindings",
    "Secret": "secrets",
    "Service": "services",
    "ServiceAccount": "serviceaccounts",
    "ValidatingWebhookConfiguration": "validatingwebhookconfigurations",
}
_VERSIONS = {
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Ingress": "networking.k8s.io/v1",
    "IngressClass": "networking.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
}
_APPLY = {"fieldManager": "tests", "force": "true"}
_REVIEW = {"dryRun": "All", "fieldValidation": "Strict"}


class Kubectl:
    """Applies, reads, patches and deletes objects; raises `aiohttp.ClientResponseError` when refused."""

    def __init__(self, session: aiohttp.ClientSession, connection: Connection) -> None:
        self._session = session
        self._connection = connection

    async def apply(self, *objects: Raw, manager: str = "tests") -> Raw:
        """Apply the objects in their order, as `manager` does; return the last as it is now."""
        applied: Raw = {}
        for raw in objects:
            meta = raw["metadata"]
            path = self._path(raw["kind"], meta.get("namespace"), meta["name"])
            query = {**_APPLY, "fieldManager": manager}
            applied = await self._ask("PATCH", path, raw, "application/apply-patch+yaml", query)
        return applied

    async def review(self, raw: Raw) -> Raw:
        """Return the object as it would be stored; unknown fields are errors, and nothing is stored."""
        meta = raw["metadata"]
        path = self._path(raw["kind"], meta.get("namespace"), meta["name"])
        return await self._ask("PATCH", path, raw, "application/apply-patch+yaml", {**_APPLY, **_REVIEW})

    async def replace(self, raw: Raw) -> None:
        """Write an object in the place of the one that is there: less work for the API server than `apply`."""
        meta = raw["metadata"]
        await self._ask("PUT", self._path(raw["kind"], meta.get("namespace"), meta["name"]), raw)

    async def get(self, kind: str, name: str, namespace: str | None = None) -> Raw:
        return await self._ask("GET", self._path(kind, namespace, name))

    async def list(self, kind: str, namespace: str | None = None, **query: str) -> list[Raw]:
        found: list[Raw] = (await self._ask("GET", self._path(kind, namespace, ""), query=query))["items"]
        return found

    async def patch(self, kind: str, name: str, namespace: str | None, body: Raw, subresource: str = "") -> Raw:
        """Apply a merge patch."""
        path = self._path(kind, namespace, name) + (f"/{subresource}" if subresource else "")
        return await self._ask("PATCH", path, body, "application/merge-patch+json")

    async def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object at once."""
        await self._ask("DELETE", self._path(kind, namespace, name), {"gracePeriodSeconds": 0})

    async def token(self, namespace: str, account: str, *audiences: str, pod: Raw | None = None) -> str:
        """Return a token of a service account, good for an hour; with a pod, it is bound to that."""
        spec: Raw = {"audiences": list(audiences)}
        if pod is not None:
            meta = pod["metadata"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str((await self._ask("POST", path, request))["status"]["token"])

    async def pod(self, namespace: str, name: str, address: str, *, app: str, ready: bool = True) -> None:
        """Make a pod that runs on a node, or change whether it is ready: what a scheduler and a kubelet do."""
        spec = {"nodeName": "node", "containers": [{"name": "app", "image": "none"}]}
        meta = {"name": name, "namespace": namespace, "labels": {"app": app}}
        await self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [condition]}
        await self.patch("Pod", name, namespace, {"status": status}, "status")

    def _path(self, kind: str, namespace: str | None, name: str) -> str:
        version = _VERSIONS.get(kind, "v1")
        parts = [f"/apis/{version}" if "/" in version else f"/api/{version}"]
        parts += [f"namespaces/{namespace}"] if namespace else []
        parts += [_PLURALS[kind]] + ([name] if name else [])
        return "/".join(parts)

    async def _ask(
        self, method: str, path: str, body: Raw | None = None, media: str = "application/json", query: Raw | None = None
    ) -> Raw:
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": media}
        url = self._connection.url(path)
        async with self._session.request(method, url, data=data, headers=headers, params=query) as response:
            answer: Raw = await response.json(content_type=None)
            if not response.ok:
                raise aiohttp.ClientResponseError(
                    response.request_info, (), status=response.status, message=str(answer.get("message"))
                )
            return answer


@asynccontextmanager
async def kubectl_on(connection: Connection) -> AsyncIterator[Kubectl]:
    """Give a `Kubectl` with a session of the running loop."""
    async with connection.session() as session:
        yield Kubectl(session, connection)
