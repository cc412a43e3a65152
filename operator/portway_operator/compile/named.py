"""Which Secrets and ConfigMaps annotations name: they are followed beside those that are anyway."""

from __future__ import annotations

from portway_operator.annotations import IngressAnnotations, read
from portway_operator.compile.access import AccessReader
from portway_operator.compile.classes import Classes
from portway_operator.compile.client_certificates import ClientCertificates
from portway_operator.compile.configuration import configured
from portway_operator.compile.custom_fields import CustomFields
from portway_operator.compile.endpoint_tls import EndpointSecrets
from portway_operator.compile.field_maps import named_by_settings
from portway_operator.objects import Kind
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["Named", "named_objects"]

Named = tuple[Kind, str, str]
"""The kind, the namespace and the name of an object."""


def named_objects(store: ObjectStore, settings: CompileSettings) -> frozenset[Named]:
    """Return the Secrets and ConfigMaps that annotations of our Ingresses, and our own ConfigMap, name."""
    maps = named_by_settings(store, settings)
    settings, _ = configured(store, settings)
    classes = Classes(store.ingress_classes.values(), settings)
    readers = (AccessReader(store), ClientCertificates(store), EndpointSecrets())
    fields = CustomFields(store, settings)
    for ingress in store.ingresses.values():
        if ingress.meta.annotations and classes.ours(ingress):
            values = read(IngressAnnotations, ingress).values
            for reader in readers:
                reader.read(ingress, values)
            fields.read(ingress, values)
    secrets = frozenset[tuple[str, str]]().union(*(reader.secrets for reader in readers))
    return frozenset((Kind.SECRET, *key) for key in secrets) | {
        (Kind.CONFIG_MAP, *key) for key in (*fields.named, *maps)
    }
