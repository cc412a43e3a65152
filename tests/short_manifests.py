"""Manifests for pairs of snapshots, written short, and what they compile to."""

from __future__ import annotations

from typing import Any

from certs import issue
from portway_operator.compile import compile_snapshot
from portway_operator.decode import decode
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Snapshot

__all__ = [
    "CHAINS",
    "INGRESS_CLASS",
    "authority",
    "compiled",
    "ingress",
    "passwords",
    "paths",
    "secret",
    "service",
    "slices",
    "tls",
]

Raw = dict[str, Any]

CHAINS = {name: issue("shop.example") for name in ("one", "two")}
"""Certificates with their keys, made once: equal content is no difference."""

_HASH = "$2y$05$abcdefghijklmnopqrstuuNgDcOCxLBHQnXsDtoXGdLLFoyyzm2Ku"


def paths(*rules: str, service: str = "web") -> list[Raw]:
    """Return rules for port 80 of `service`, or of the one in `other:/path`; `=/path` is an exact one."""
    found = []
    for rule in rules:
        name, mark, path = rule.rpartition(":")
        exact = path.startswith("=")
        backend = {"service": {"name": name if mark else service, "port": {"number": 80}}}
        found.append({"path": path.lstrip("="), "pathType": "Exact" if exact else "Prefix", "backend": backend})
    return found


def ingress(
    *rules: str,
    name: str = "web",
    host: str = "shop.example",
    namespace: str = "shop",
    secret: str = "",
    nginx: dict[str, str] | None = None,
    **annotations: str,
) -> Raw:
    """Return an Ingress; `annotations` are ours with `_` for `-`, `nginx` are ingress-nginx's, `secret` is for TLS."""
    notes = {f"portway.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    notes |= {f"nginx.ingress.kubernetes.io/{key}": value for key, value in (nginx or {}).items()}
    spec: Raw = {"ingressClassName": "portway", "rules": [{"host": host, "http": {"paths": paths(*rules or ("/",))}}]}
    if not host:
        del spec["rules"][0]["host"]
    if secret:
        spec["tls"] = [{"hosts": [host], "secretName": secret}]
    metadata = {
        "name": name,
        "namespace": namespace,
        "creationTimestamp": "2024-01-01T00:00:00Z",
        "annotations": notes,
    }
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata, "spec": spec}


def service(name: str = "web", namespace: str = "shop", **annotations: str) -> Raw:
    """Return a Service with the port 80; `annotations` are ours."""
    notes = {f"portway.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    metadata = {"name": name, "namespace": namespace, "annotations": notes}
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80, "name": "http"}, {"port": 5432, "name": "sql"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def slices(name: str = "web", namespace: str = "shop") -> Raw:
    """Return the EndpointSlice of a Service, with one endpoint."""
    metadata = {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "sql", "port": 5432}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    }


def secret(name: str, namespace: str = "shop", kind: str = "Opaque", **values: str) -> Raw:
    """Return a Secret; `_` in the keys of `values` is `.`."""
    told = {key.replace("_", "."): value for key, value in values.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "type": kind, "metadata": metadata, "stringData": told}


def passwords(name: str, *users: str) -> Raw:
    """Return a Secret with these users, who have all one password."""
    return secret(name, auth="".join(f"{user}:{_HASH}\n" for user in users))


def tls(name: str, chain: str) -> Raw:
    """Return a TLS Secret with one of `CHAINS`."""
    parts = CHAINS[chain]
    return secret(name, kind="kubernetes.io/tls", tls_crt=parts[0].decode(), tls_key=parts[1].decode())


def authority(name: str, *chains: str) -> Raw:
    """Return a Secret with authorities of clients, which are some of `CHAINS`."""
    return secret(name, ca_crt="".join(CHAINS[chain][0].decode() for chain in chains))


INGRESS_CLASS: Raw = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "portway"},
    "spec": {"controller": "portway.dev/ingress-controller"},
}


def compiled(*objects: Raw, settings: CompileSettings | None = None) -> Snapshot:
    """Return the snapshot of these objects, and of Services that any of them may name."""
    store = ObjectStore()
    usual = [INGRESS_CLASS]
    for name, namespace in (("web", "shop"), ("api", "shop"), ("auth", "shop"), ("login", "shop"), ("web", "bank")):
        usual += [service(name, namespace), slices(name, namespace)]
    for raw in (*usual, *objects):
        found = decode(raw)
        assert found is not None
        store.put(found)
    return compile_snapshot(store, settings or CompileSettings()).snapshot
