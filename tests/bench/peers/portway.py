"""Portway, started as its users start it: `portway run -f DIRECTORY`."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import bcrypt

from bench.accounting import command_line, tree
from bench.peers.peer import Peer
from bench.scene import Place, Scene

__all__ = ["Portway"]

_WORKER = "portway_proxy.worker"
_NAMESPACE = "bench"


class Portway(Peer):
    """Portway with one worker, or more; the workers are measured, their supervisor is shown apart."""

    label = "portway"
    note = "1 worker (measured; its supervisor apart), access log in batches and metrics on, as shipped"
    _workers = 1
    _annotations: Mapping[str, str] = MappingProxyType({})

    @classmethod
    def with_workers(cls, number: int) -> Portway:
        """Return Portway with so many workers."""
        made = cls()
        made._workers = number
        made.label = f"portway, {number} workers"
        made.note = cls.note.replace("1 worker", f"{number} workers")
        return made

    @classmethod
    def annotated(cls, what: str, **annotations: str) -> Portway:
        """Return Portway whose Ingresses have these annotations of ingress-nginx, `_` for `-`."""
        made = cls()
        names = {name: "nginx.ingress.kubernetes.io/" + name.replace("_", "-") for name in annotations}
        made._annotations = {names[name]: text for name, text in annotations.items()}
        made.label = f"portway, {what}"
        made.note = f"{cls.note}; {what}"
        return made

    def missing(self) -> str:
        """Return how to install it into this environment."""
        return "" if _program() else "pip install -e ."

    def version(self) -> str:
        """Return the version of the package."""
        return metadata.version("portway")

    def command(self, scene: Scene, place: Place) -> list[str]:
        """Write the objects as YAML, of which JSON is the part that is quick to write and read."""
        directory = place.directory / "objects"
        directory.mkdir()
        text = "".join(f"---\n{json.dumps(document)}\n" for document in self._objects(scene, place))
        (directory / "objects.yaml").write_text(text)
        http, https = place.port, place.spare[0]
        if scene.protocol != "http":
            http, https = (https, http) if scene.protocol == "https" else (0, https)
        ports = ["--http-port", str(http), "--https-port", str(https), "--admin-port", str(place.spare[1])]
        return [
            _program(),
            "run",
            "-f",
            str(directory),
            "--address",
            "127.0.0.1",
            "--workers",
            str(self._workers),
            *ports,
        ]

    def _objects(self, scene: Scene, place: Place) -> Iterator[dict[str, object]]:
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": "portway"},
            "spec": {"controller": "portway.dev/ingress-controller"},
        }
        yield _secret(place)
        yield _users()
        yield _service(scene, place)
        if scene.protocol != "tcp":
            for number, (host, paths) in enumerate(scene.hosts()):
                yield _ingress(number, host, paths, scene, self._annotations)

    def measured(self, root: int) -> list[int]:
        """Return the workers."""
        return [pid for pid in tree(root) if _WORKER in command_line(pid)]


def _program() -> str:
    beside = Path(sys.executable).with_name("portway")
    return str(beside) if beside.exists() else shutil.which("portway") or ""


def _service(scene: Scene, place: Place) -> dict[str, object]:
    annotations = {"portway.dev/endpoints": f"127.0.0.1:{place.endpoint}"}
    if scene.protocol == "tcp":
        annotations["portway.dev/tcp-ports"] = f"{place.port}:80"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "endpoint", "namespace": _NAMESPACE, "annotations": dict(annotations)},
        "spec": {"ports": [{"name": "http", "port": 80, "appProtocol": "grpc" if scene.grpc else "http"}]},
    }


def _secret(place: Place) -> dict[str, object]:
    files = {"tls.crt": place.certificate, "tls.key": place.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "certificate", "namespace": _NAMESPACE},
        "data": {name: base64.b64encode(path.read_bytes()).decode() for name, path in files.items()},
    }


def _users() -> dict[str, object]:
    """Return the user of `load.KNOWN`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "users", "namespace": _NAMESPACE},
        "stringData": {"auth": "ada:" + bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()},
    }


def _ingress(
    number: int, host: str, paths: list[str], scene: Scene, annotations: Mapping[str, str]
) -> dict[str, object]:
    backend = {"service": {"name": "endpoint", "port": {"number": 80}}}
    rules = [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths]
    spec: dict[str, object] = {"ingressClassName": "portway", "rules": [{"host": host, "http": {"paths": rules}}]}
    if scene.protocol == "https":
        # Only then: a host with a certificate redirects plain requests.
        spec["tls"] = [{"hosts": [host], "secretName": "certificate"}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": f"i{number}", "namespace": _NAMESPACE, "annotations": dict(annotations)},
        "spec": spec,
    }
