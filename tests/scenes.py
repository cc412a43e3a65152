"""Kubernetes objects for tests, written as YAML, and what they compile to.

`!certificate [shop.example]` in the data of a Secret stands for a chain and a key for these hosts.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from certs import issue
from portway_operator.compile import Compiled, compile_snapshot
from portway_operator.decode import BadObject, decode
from portway_operator.objects import Object
from portway_operator.problems import bad_object
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.describe import describe

CASES = sorted((Path(__file__).parent / "operator" / "golden").glob("*.yaml"))
"""The golden cases of the compile."""

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, creationTimestamp: 2024-01-01T00:00:00Z}
spec:
  ingressClassName: portway
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
"""

CLASS = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: portway}
spec: {controller: portway.dev/ingress-controller}
"""

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.96.0.1
  ports: [{port: 80, name: http, targetPort: 8080}]
"""

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
"""

SHOP = "---".join((CLASS, INGRESS, SERVICE, SLICE))
"""One Ingress, all of it good."""


class _Loader(yaml.SafeLoader):
    """Reads a certificate where the tag asks for one."""


def _certificate(loader: yaml.SafeLoader, node: yaml.Node) -> dict[str, str]:
    assert isinstance(node, yaml.SequenceNode)
    chain, key = issue(*map(str, loader.construct_sequence(node)))
    return {"tls.crt": chain.decode(), "tls.key": key.decode()}


_Loader.add_constructor("!certificate", _certificate)


def documents(text: str) -> list[dict[str, object]]:
    """Return the YAML documents in `text` as they are."""
    return [found for found in yaml.load_all(text, _Loader) if found is not None]


def objects(text: str) -> list[Object]:
    """Return the objects in `text`."""
    return [found for raw in documents(text) if (found := decode(raw)) is not None]


def scene(case: Path) -> tuple[ObjectStore, CompileSettings]:
    """Return the objects of a golden case, and its settings."""
    store, settings, problems = ObjectStore(), CompileSettings(), []
    for raw in documents(case.read_text()):
        if "settings" in raw:
            settings = msgspec.convert(raw["settings"], CompileSettings)
            continue
        try:
            found = decode(raw)
        except BadObject as error:
            problems.append(bad_object(error))
        else:
            assert found is not None
            store.put(found)
    store.report(case.name, problems)
    return store, settings


def store_of(*found: str | Object) -> ObjectStore:
    """Return a store that holds objects, or those in YAML texts."""
    store = ObjectStore()
    for one in found:
        for each in objects(one) if isinstance(one, str) else [one]:
            store.put(each)
    return store


def compiled(*found: str | Object, settings: CompileSettings | None = None) -> Compiled:
    """Return what objects, or those in YAML texts, compile to."""
    return compile_snapshot(store_of(*found), settings or CompileSettings())


def described(*found: str | Object, settings: CompileSettings | None = None) -> list[str]:
    """Return the lines of what objects compile to."""
    return describe(compiled(*found, settings=settings).snapshot).splitlines()


def codes(result: Compiled) -> list[str]:
    """Return the codes of all problems, in order."""
    return [problem.code for problem in result.problems]
