"""Reads the metadata that every object has."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime

from portway_operator.decode.fields import BadObject, Raw, mapping, optional_mapping, show, text
from portway_operator.decode.names import label, object_name
from portway_operator.objects import Meta

__all__ = ["CLASS_ANNOTATION", "NGINX_PREFIX", "PREFIX", "read_meta"]

PREFIX = "portway.dev/"
"""The prefix of our own annotations."""

NGINX_PREFIX = "nginx.ingress.kubernetes.io/"
"""The prefix of ingress-nginx's annotations."""

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
"""The annotation that named an Ingress's class before `spec.ingressClassName` did."""

_RFC3339 = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:.]{8,18}(?:[Zz]|[+-][0-9]{2}:[0-9]{2})")
_KEY = re.compile(r"[a-z.]+/[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")


def read_meta(raw: Raw, *, namespaced: bool = True) -> Meta:
    """Return the metadata of an object; like kubectl, put one without namespace into `default`."""
    field = "metadata"
    metadata = mapping(raw.get(field), field)
    generation = metadata.get("generation")
    return Meta(
        namespace=label(metadata.get("namespace") or "default", f"{field}.namespace") if namespaced else "",
        name=object_name(metadata.get("name"), f"{field}.name"),
        created=_created(metadata.get("creationTimestamp"), f"{field}.creationTimestamp"),
        annotations=_annotations(metadata.get("annotations"), f"{field}.annotations"),
        uid=text(metadata.get("uid"), f"{field}.uid", ""),
        resource_version=text(metadata.get("resourceVersion"), f"{field}.resourceVersion", ""),
        generation=generation if isinstance(generation, int) else 0,
    )


def _created(value: object, field: str) -> float:
    if value is None:
        return float("inf")
    # YAML readers make a date of it, JSON readers do not.
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    stamp = text(value, field)
    with suppress(ValueError, OverflowError):
        if _RFC3339.fullmatch(stamp):
            return datetime.fromisoformat(stamp.upper()).timestamp()
    raise BadObject(field, f"{show(stamp)} is no time.", "Leave it out, or write it as 2026-01-31T12:00:00Z.")


def _annotations(value: object, field: str) -> dict[str, str]:
    read = {}
    for key, annotation in optional_mapping(value, field).items():
        if key.startswith((PREFIX, NGINX_PREFIX)) or key == CLASS_ANNOTATION:
            if not _KEY.fullmatch(key):
                raise BadObject(field, f"The key {show(key)} is malformed.", "Use letters, digits, `-`, `_` and `.`.")
            read[key] = text(annotation, f"{field}[{key}]")
    return read
