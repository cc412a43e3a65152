"""Objects in files, and `portway run` that serves them."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from certs import issue
from wire.command import ANY_PORTS, Command, portway

__all__ = ["ingress", "over_tls", "running", "secret", "service", "write"]


def ingress(name: str, host: str, paths: Mapping[str, str], **annotations: str) -> dict[str, Any]:
    """Return an Ingress whose `paths` lead to Services; a path that begins with `=` is an exact one."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "annotations": {
                f"nginx.ingress.kubernetes.io/{key.replace('_', '-')}": annotations[key] for key in annotations
            },
        },
        "spec": {
            "rules": [
                {
                    "host": host,
                    "http": {
                        "paths": [
                            {
                                "path": path.lstrip("="),
                                "pathType": "Exact" if path.startswith("=") else "Prefix",
                                "backend": {"service": {"name": target, "port": {"number": 80}}},
                            }
                            for path, target in paths.items()
                        ]
                    },
                }
            ]
        },
    }


def service(name: str, *ports: int) -> dict[str, Any]:
    """Return a Service that lives at `ports` of this machine."""
    where = ", ".join(f"127.0.0.1:{port}" for port in ports)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "shop", "annotations": {"portway.dev/endpoints": where}},
        "spec": {"ports": [{"port": 80}]},
    }


def secret(name: str, *hosts: str, days: int) -> dict[str, Any]:
    """Return the Secret `NAME-tls` with a certificate for `hosts` that ends in `days`."""
    chain, key = issue(*hosts, days=days)
    content = {"tls.crt": chain, "tls.key": key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": f"{name}-tls", "namespace": "shop"},
        "data": {field: base64.b64encode(content[field]).decode() for field in content},
    }


def over_tls(found: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an Ingress whose hosts are served over TLS too, by a Secret's certificate."""
    found["spec"]["tls"] = [{"hosts": [rule["host"] for rule in found["spec"]["rules"]], "secretName": name}]
    return found


def write(path: Path, *objects: Mapping[str, Any]) -> None:
    """Put objects into a file at once: nobody sees half of it."""
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    fresh.replace(path)


@asynccontextmanager
async def running(*arguments: str | Path) -> AsyncIterator[tuple[Command, int]]:
    """Run `portway run`, and return it with its admin port once it serves."""
    async with portway("run", *ANY_PORTS, "--no-access-log", "--workers", "1", *arguments) as command:
        await command.serving()
        yield command, await command.port("admin")
