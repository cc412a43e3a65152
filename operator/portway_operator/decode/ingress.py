"""Reads Ingresses and IngressClasses.

A malformed rule, path or TLS entry costs itself only: it becomes a fault of the Ingress, which is read without it.
"""

from __future__ import annotations

from functools import partial

from portway_operator.decode.fields import BadObject, Raw, each, items, mapping, optional_mapping, show, text
from portway_operator.decode.meta import read_meta
from portway_operator.decode.names import host, label, object_name, port_name, port_number
from portway_operator.decode.paths import PATH_TYPES, canonical_path
from portway_operator.decode.patterns import asks_for_patterns, is_pattern, path_pattern
from portway_operator.decode.status import published
from portway_operator.objects import Backend, Fault, Ingress, IngressClass, IngressPath, IngressRule, IngressTls
from portway_proxy.snapshot import PathMatch

__all__ = ["read_ingress", "read_ingress_class"]

_NO_RULE = "The rule is left out; the rest of the Ingress is served."
_NO_PATH = "The path is left out; the rest of the Ingress is served."
_NO_TLS = "The TLS entry is left out; the rest of the Ingress is served."
_NO_HOST = "The host is left out of the TLS entry; the rest of the Ingress is served."
_NO_DEFAULT = "The Ingress is served without its default backend."


def read_ingress_class(raw: Raw) -> IngressClass:
    """Return an IngressClass; one without controller is nobody's."""
    spec = optional_mapping(raw.get("spec"), "spec")
    return IngressClass(read_meta(raw, namespaced=False), text(spec.get("controller"), "spec.controller", ""))


def read_ingress(raw: Raw) -> Ingress:
    """Return an Ingress and what had to be left out of it."""
    meta = read_meta(raw)
    spec = mapping(raw.get("spec"), "spec")
    class_name = spec.get("ingressClassName")
    rules = items(spec.get("rules"), "spec.rules")
    tls = items(spec.get("tls"), "spec.tls")
    faults: list[Fault] = []
    if not rules and spec.get("defaultBackend") is None:
        raise BadObject("spec", "It has neither rules nor a defaultBackend.", "Give it one of them.")
    return Ingress(
        meta=meta,
        class_name=None if class_name is None else object_name(class_name, "spec.ingressClassName"),
        default_backend=_default_backend(spec.get("defaultBackend"), faults),
        has_rules=bool(rules),
        rules=tuple(
            each(rules, "spec.rules", partial(_rule, patterns=asks_for_patterns(meta), faults=faults), _NO_RULE, faults)
        ),
        tls=tuple(each(tls, "spec.tls", partial(_tls, faults=faults), _NO_TLS, faults)),
        faults=tuple(faults),
        published=published(raw),
    )


def _default_backend(value: object, faults: list[Fault]) -> Backend | None:
    field = "spec.defaultBackend"
    found = each(() if value is None else (value,), field, lambda one, _: _backend(one, field), _NO_DEFAULT, faults)
    return found[0] if found else None


def _rule(value: object, field: str, *, patterns: bool, faults: list[Fault]) -> IngressRule:
    rule = mapping(value, field)
    name = host(rule.get("host"), f"{field}.host")
    if rule.get("http") is None:
        return IngressRule(name, None, field)
    http = mapping(rule["http"], f"{field}.http")
    paths = items(http.get("paths"), f"{field}.http.paths")
    if not paths:
        raise BadObject(f"{field}.http.paths", "There is no path.", "Give it one; `/` with pathType Prefix is any.")
    read = partial(_path, patterns=patterns)
    return IngressRule(name, tuple(each(paths, f"{field}.http.paths", read, _NO_PATH, faults)), field)


def _path(value: object, field: str, *, patterns: bool) -> IngressPath:
    entry = mapping(value, field)
    path_type = text(entry.get("pathType"), f"{field}.pathType", "")
    if path_type not in PATH_TYPES:
        raise BadObject(
            f"{field}.pathType", f"There is no path type {show(path_type)}.", f"Use one of {', '.join(PATH_TYPES)}."
        )
    text_of = text(entry.get("path"), f"{field}.path", "")
    if patterns and is_pattern(text_of, path_type):
        pattern = path_pattern(text_of, f"{field}.path")
        return IngressPath(pattern, PathMatch.REGEX, _backend(entry.get("backend"), f"{field}.backend"), field)
    return IngressPath(
        path=canonical_path(text_of, path_type, f"{field}.path"),
        match=PATH_TYPES[path_type],
        backend=_backend(entry.get("backend"), f"{field}.backend"),
        field=field,
    )


def _backend(value: object, field: str) -> Backend:
    backend = mapping(value, field)
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is not None:
        raise BadObject(
            field,
            "It names a resource, and Portway serves Services only.",
            "Name a `service` instead.",
            code="resource_backend",
        )
    if resource is not None:
        raise BadObject(field, "It names both a service and a resource.", "Remove the resource.")
    field = f"{field}.service"
    named = mapping(service, field)
    port = mapping(named.get("port"), f"{field}.port")
    name, number = port.get("name") or None, port.get("number") or None
    if (name is None) == (number is None):
        raise BadObject(f"{field}.port", "It needs either a name or a number.", "Give it one of them.")
    return Backend(
        label(named.get("name"), f"{field}.name"),
        port_number(number, f"{field}.port.number") if name is None else port_name(name, f"{field}.port.name"),
    )


def _tls(value: object, field: str, faults: list[Fault]) -> IngressTls:
    entry = mapping(value, field)
    declared = items(entry.get("hosts"), f"{field}.hosts")
    hosts = each(declared, f"{field}.hosts", _tls_host, _NO_HOST, faults)
    if declared and not hosts:
        # Without any host it would be meant for all of them.
        raise BadObject(f"{field}.hosts", "None of its hosts is a host name.", "Give it DNS names.")
    secret = entry.get("secretName") or None
    return IngressTls(
        hosts=tuple(dict.fromkeys(hosts)),
        secret="" if secret is None else object_name(secret, f"{field}.secretName"),
        field=field,
    )


def _tls_host(value: object, field: str) -> str:
    name = host(text(value, field), field)
    if not name:
        raise BadObject(field, "It is empty.", "Name the host.")
    return name
