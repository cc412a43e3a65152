"""Upgrades of the chart: to other values, from an earlier chart, and beside another release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helm_python import HelmError

from chart.rendering import EARLIER, Raw, ci_files, ci_values, render
from chart.test_chart import CLUSTERED, rendered


def _immutable(raw: Raw) -> Any:  # noqa: ANN401 - whatever of the object may not change
    spec = raw.get("spec", {})
    return {
        "DaemonSet": lambda: spec["selector"],
        "Deployment": lambda: spec["selector"],
        "Service": lambda: spec.get("clusterIP") == "None",
        "Secret": lambda: raw["type"],
        "IngressClass": lambda: spec["controller"],
        "ClusterRoleBinding": lambda: raw["roleRef"],
        "RoleBinding": lambda: raw["roleRef"],
    }.get(raw["kind"], lambda: None)()


def _changed(before: list[Raw], after: list[Raw]) -> list[tuple[str, str]]:
    """Return the objects that are in both and differ in what the API server lets nobody change."""
    found = {(raw["kind"], raw["metadata"].get("namespace"), raw["metadata"]["name"]): raw for raw in before}
    return [
        (raw["kind"], raw["metadata"]["name"])
        for raw in after
        if (old := found.get((raw["kind"], raw["metadata"].get("namespace"), raw["metadata"]["name"])))
        and _immutable(old) != _immutable(raw)
    ]


@pytest.mark.parametrize("file", ci_files())
def test_no_upgrade_to_other_values_changes_what_cannot_be_changed(file: str) -> None:
    assert _changed(rendered("default-values.yaml"), rendered(file)) == []


@pytest.mark.parametrize("earlier", EARLIER, ids=lambda path: path.stem)
@pytest.mark.parametrize("file", ci_files())
def test_no_upgrade_from_an_earlier_chart_changes_what_cannot_be_changed(file: str, earlier: Path) -> None:
    try:
        before = render(ci_values(file), chart=earlier)
    except HelmError:
        pytest.skip("it has values that were not there")
    assert _changed(before, rendered(file)) == []


def test_there_is_an_earlier_chart_to_come_from() -> None:
    assert EARLIER


def test_two_releases_share_no_object_of_the_cluster_but_the_class() -> None:
    def clustered(objects: list[Raw]) -> set[tuple[str, str]]:
        return {(raw["kind"], raw["metadata"]["name"]) for raw in objects if raw["kind"] in CLUSTERED}

    values = {"controller": {"admissionWebhooks": {"enabled": True}}}
    one, other = (clustered(render(values, name="edge", namespace=namespace)) for namespace in ("a", "b"))
    assert one & other == {("IngressClass", "portway")}
