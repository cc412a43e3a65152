"""Which Secrets annotations name: they are followed beside those with certificates."""

from __future__ import annotations

from portway_operator.annotations import IngressAnnotations, read
from portway_operator.compile.access import AccessReader
from portway_operator.compile.classes import Classes
from portway_operator.compile.client_certificates import ClientCertificates
from portway_operator.compile.configuration import configured
from portway_operator.compile.endpoint_tls import EndpointSecrets
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore

__all__ = ["named_secrets"]


def named_secrets(store: ObjectStore, settings: CompileSettings) -> frozenset[tuple[str, str]]:
    """Return the namespaces and names of the Secrets that annotations of our Ingresses name."""
    settings, _ = configured(store, settings)
    classes = Classes(store.ingress_classes.values(), settings)
    readers = (AccessReader(store), ClientCertificates(store), EndpointSecrets())
    for ingress in store.ingresses.values():
        if ingress.meta.annotations and classes.ours(ingress):
            values = read(IngressAnnotations, ingress).values
            for reader in readers:
                reader.read(ingress, values)
    return frozenset[tuple[str, str]]().union(*(reader.secrets for reader in readers))
