"""Reads raw API objects (from the API server, or from YAML); the only place that sees such a mapping.

It checks everything that the API server would: an object may be older than a check, or come out of a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from portway_operator.decode.data import read_config_map, read_secret
from portway_operator.decode.fields import BadObject, Raw
from portway_operator.decode.ingress import read_ingress, read_ingress_class
from portway_operator.decode.service import read_endpoint_slice, read_service
from portway_operator.objects import Kind, Object
from portway_proxy.snapshot import Origin

__all__ = ["BadObject", "Raw", "decode"]

_READERS: dict[tuple[str, str], Callable[[Raw], Object]] = {
    ("networking.k8s.io/v1", Kind.INGRESS): read_ingress,
    ("networking.k8s.io/v1", Kind.INGRESS_CLASS): read_ingress_class,
    ("v1", Kind.SERVICE): read_service,
    ("v1", Kind.SECRET): read_secret,
    ("v1", Kind.CONFIG_MAP): read_config_map,
    ("discovery.k8s.io/v1", Kind.ENDPOINT_SLICE): read_endpoint_slice,
}

_RETIRED: dict[tuple[str, str], str] = {
    ("extensions/v1beta1", Kind.INGRESS): "networking.k8s.io/v1",
    ("networking.k8s.io/v1beta1", Kind.INGRESS): "networking.k8s.io/v1",
    ("networking.k8s.io/v1beta1", Kind.INGRESS_CLASS): "networking.k8s.io/v1",
    ("discovery.k8s.io/v1beta1", Kind.ENDPOINT_SLICE): "discovery.k8s.io/v1",
}


def decode(raw: Raw) -> Object | None:
    """Return the object, or None for a kind that Portway does not read.

    `apiVersion` and `kind` must be there; the API server leaves them out of the items of a list. Raises `BadObject`
    when nothing of the object can be used; its `origin` names the object as far as it is known.
    """
    version, kind = raw.get("apiVersion"), raw.get("kind")
    if not isinstance(version, str) or not isinstance(kind, str):
        return None
    read = _READERS.get((version, kind))
    try:
        if (version, kind) in _RETIRED:
            _refuse_retired(version, kind)
        return None if read is None else read(raw)
    except BadObject as error:
        error.origin = _origin(raw, kind, error.field)
        raise


def _refuse_retired(version: str, kind: str) -> NoReturn:
    message = f"Kubernetes no longer serves {kind} of {version}."
    raise BadObject("apiVersion", message, f"Convert it to {_RETIRED[version, kind]}.")


def _origin(raw: Raw, kind: str, field: str) -> Origin:
    metadata = raw.get("metadata")
    named = metadata if isinstance(metadata, dict) else {}
    namespace = "" if kind == Kind.INGRESS_CLASS else named.get("namespace") or "default"
    return Origin(kind, _plain(namespace), _plain(named.get("name") or "?"), field)


def _plain(value: object) -> str:
    """Return a name as it is, or what is not even one in a form that no log reader takes for something else."""
    return value if isinstance(value, str) and value.isprintable() else ascii(value)
