"""The operator's service account and exactly what it may do: the chart's RBAC."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.kubectl import Raw

__all__ = ["NAMESPACE", "USER", "operator_rights"]

NAMESPACE = "portway"
USER = f"system:serviceaccount:{NAMESPACE}:portway-operator"
_ACCOUNT = "portway-operator"
_GROUP = "rbac.authorization.k8s.io"
_READ = ["list", "watch"]


def operator_rights() -> Iterator[Raw]:
    """Yield the namespace, the account and its roles, in the order to apply them."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _ACCOUNT, "namespace": NAMESPACE}}
    subjects = [{"kind": "ServiceAccount", "name": _ACCOUNT, "namespace": NAMESPACE}]
    rules = [
        _rule("networking.k8s.io", ["ingresses", "ingressclasses"], _READ),
        _rule("networking.k8s.io", ["ingresses/status"], ["patch"]),
        _rule("", ["services", "secrets"], _READ),
        _rule("", ["services/status"], ["patch"]),
        _rule("discovery.k8s.io", ["endpointslices"], _READ),
        _rule("", ["events"], ["create", "patch"]),
        _rule("events.k8s.io", ["events"], ["create", "patch"]),
        _rule("authentication.k8s.io", ["tokenreviews"], ["create"]),
    ]
    own = [
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        _rule("coordination.k8s.io", ["leases"], ["get", "update"], ["portway"]),
        _rule("", ["configmaps"], _READ, ["portway", "tcp-services", "udp-services"]),
        _rule("", ["services"], ["get"]),
        _rule("", ["pods"], ["list"]),
    ]
    meta = {"name": _ACCOUNT}
    yield {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}
    yield _binding("ClusterRole", meta, subjects)
    meta = meta | {"namespace": NAMESPACE}
    yield {"apiVersion": f"{_GROUP}/v1", "kind": "Role", "metadata": meta, "rules": own}
    yield _binding("Role", meta, subjects)


def _rule(group: str, resources: list[str], verbs: list[str], names: list[str] | None = None) -> Raw:
    rule: Raw = {"apiGroups": [group], "resources": resources, "verbs": verbs}
    return rule | {"resourceNames": names} if names else rule


def _binding(kind: str, meta: Raw, subjects: list[Raw]) -> Raw:
    role = {"apiGroup": _GROUP, "kind": kind, "name": _ACCOUNT}
    binding = {"apiVersion": f"{_GROUP}/v1", "kind": f"{kind}Binding", "metadata": meta}
    return binding | {"roleRef": role, "subjects": subjects}
