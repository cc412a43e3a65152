"""manifests: what people apply without Helm is valid for Kubernetes, old and new."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from chart.rendering import ROOT
from chart.test_chart import VERSIONS

MANIFESTS = sorted((ROOT / "manifests").rglob("*.yaml"))
# A configuration of kind's, and values of the chart.
OTHERS = {"cluster.yaml", "values.yaml"}


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT / "manifests")))
def test_an_object_is_valid(path: Path, version: str) -> None:
    documents = list(yaml.safe_load_all(path.read_text()))
    if path.parent.name == "kind":
        assert path.name in OTHERS
        return
    assert documents
    for raw in documents:
        kubernetes_validate.validate(raw, version, strict=True)


def test_the_cluster_of_kind_has_the_fields_of_its_api() -> None:
    """kind 0.33 reads it with the same strictness: an unknown field is an error."""
    [cluster] = yaml.safe_load_all((ROOT / "manifests" / "kind" / "cluster.yaml").read_text())
    assert (cluster["kind"], cluster["apiVersion"]) == ("Cluster", "kind.x-k8s.io/v1alpha4")
    assert cluster.keys() == {"kind", "apiVersion", "name", "nodes"}
    [node] = cluster["nodes"]
    assert node.keys() == {"role", "extraPortMappings"}
    for mapping in node["extraPortMappings"]:
        assert mapping.keys() == {"containerPort", "hostPort", "listenAddress", "protocol"}
