"""Writes the YAML that takes the place of a snippet: annotations, and Ingresses for paths that need their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
import yaml

from portway_operator.check.report import PathRule, Translation
from portway_operator.check.snippets import NOBODY
from portway_operator.objects import Backend, Ingress

__all__ = ["pasted"]

_HEAD = "# In metadata.annotations of the Ingress, in the place of the snippet:\n"
_MORE = "# Beside it, as Ingresses of their own:\n"
_WIDTH = 10_000
_ANSWERS = ("permanent-redirect", "temporal-redirect")
_LEFT_OUT = ("-snippet", "rewrite-target", "use-regex")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def pasted(found: Translation, ingress: Ingress) -> Translation:
    """Return a translation with the YAML for the Ingress that has the snippet."""
    parts = []
    if found.annotations:
        parts.append(_HEAD + _dump(dict(found.annotations)))
    backend = _backend(ingress)
    if found.paths and backend is not None:
        parts.append(_MORE + "---\n".join(_dump(_ingress(ingress, rule, backend)) for rule in found.paths))
    return msgspec.structs.replace(found, yaml="".join(parts))


def _dump(value: Mapping[str, object]) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)


def _backend(ingress: Ingress) -> Backend | None:
    paths = (path for rule in ingress.rules for path in rule.paths or ())
    first = next(paths, None)
    return ingress.default_backend if first is None else first.backend


def _ingress(ingress: Ingress, rule: PathRule, backend: Backend) -> dict[str, object]:
    """Return an Ingress for one path, on the hosts of the one with the snippet."""
    name = f"{ingress.meta.name}-{re.sub(r'[^a-z0-9]+', '-', rule.path.lower()).strip('-') or 'root'}"
    port = {"number" if isinstance(backend.port, int) else "name": backend.port}
    path = {
        "path": rule.path,
        "pathType": rule.path_type,
        "backend": {"service": {"name": backend.service, "port": port}},
    }
    hosts = dict.fromkeys(each.host for each in ingress.rules) or {"": None}
    spec: dict[str, object] = {} if ingress.class_name is None else {"ingressClassName": ingress.class_name}
    if secured := [entry for entry in ingress.tls if entry.hosts and entry.secret]:
        spec["tls"] = [{"hosts": list(entry.hosts), "secretName": entry.secret} for entry in secured]
    spec["rules"] = [({"host": host} if host else {}) | {"http": {"paths": [path]}} for host in hosts]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": ingress.meta.namespace, "annotations": _annotations(ingress, rule)},
        "spec": spec,
    }


def _annotations(ingress: Ingress, rule: PathRule) -> dict[str, str]:
    """Return those of the path; where its requests come to the endpoint, what the Ingress has counts for it too."""
    if any(key.endswith(_ANSWERS) for key in rule.annotations) or NOBODY in rule.annotations.values():
        return dict(rule.annotations)
    own = {key: text for key, text in ingress.meta.annotations.items() if not key.endswith(_LEFT_OUT)}
    return own | dict(rule.annotations)
