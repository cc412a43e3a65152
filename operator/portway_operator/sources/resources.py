"""Where each kind lives in the Kubernetes API, and which part of it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from portway_operator.objects import Kind

__all__ = ["RESOURCES", "Resource", "Target"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind's place in the API; `selector` is the field selector that its lists and watches always carry."""

    kind: Kind
    group: str
    version: str
    plural: str
    namespaced: bool = True
    selector: str = ""

    def path(self, namespace: str | None) -> str:
        """Return the path of the collection, of all namespaces when there is none."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return f"{root}/namespaces/{namespace}/{self.plural}" if namespace else f"{root}/{self.plural}"

    @property
    def api_version(self) -> str:
        """Return what objects of this kind say as `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version


RESOURCES = {
    resource.kind: resource
    for resource in (
        Resource(Kind.INGRESS, "networking.k8s.io", "v1", "ingresses"),
        Resource(Kind.INGRESS_CLASS, "networking.k8s.io", "v1", "ingressclasses", namespaced=False),
        Resource(Kind.SERVICE, "", "v1", "services"),
        Resource(Kind.ENDPOINT_SLICE, "discovery.k8s.io", "v1", "endpointslices"),
        # Helm's releases, tokens and passwords are Secrets too: none of our business, and most of the bytes.
        Resource(Kind.SECRET, "", "v1", "secrets", selector="type=kubernetes.io/tls"),
        Resource(Kind.CONFIG_MAP, "", "v1", "configmaps"),
    )
}
"""Every kind's resource."""


@dataclass(frozen=True, slots=True)
class Target:
    """What one list and one watch cover: a kind, in one namespace or in all (None), or the one object of a name."""

    kind: Kind
    namespace: str | None = None
    name: str = ""

    def __str__(self) -> str:
        where = f" {self.namespace}/{self.name}" if self.name else f" in {self.namespace}" if self.namespace else ""
        return f"{self.kind}{where}"

    @property
    def path(self) -> str:
        """Return the path of the collection in the API."""
        return RESOURCES[self.kind].path(self.namespace)

    @property
    def selector(self) -> str:
        """Return the field selector; empty for everything.

        RBAC that grants single names allows a list and a watch of them only with the selector on the name alone.
        """
        return f"metadata.name={self.name}" if self.name else RESOURCES[self.kind].selector
