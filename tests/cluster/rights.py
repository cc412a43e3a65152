"""The operator's service account and exactly what it may do: the manifest that people apply."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from cluster.kubectl import Raw

__all__ = ["NAMESPACE", "USER", "operator_rights"]

NAMESPACE = "portway"
USER = f"system:serviceaccount:{NAMESPACE}:portway-operator"
_MANIFEST = Path(__file__).parents[2] / "manifests" / "rbac.yaml"


def operator_rights() -> Iterator[Raw]:
    """Yield the namespace, the accounts and their roles, in the order to apply them."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    yield from yaml.safe_load_all(_MANIFEST.read_text())
