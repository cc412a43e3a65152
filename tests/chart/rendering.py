"""The chart, as the real Helm SDK renders it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from helm_python import Chart

__all__ = ["CHART", "EARLIER", "NAMESPACE", "ROOT", "Raw", "ci_files", "ci_values", "find", "notes", "render", "texts"]

Raw: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "portway"
EARLIER = sorted((Path(__file__).parent / "earlier").glob("*.tgz"))
"""Packages of the chart as people may have installed it; each release adds one."""

NAMESPACE = "portway"


@cache
def _chart(path: Path) -> Chart:
    return Chart.load(path)


def ci_files() -> list[str]:
    """Return the names of the value files, one for each feature."""
    return sorted(path.name for path in (CHART / "ci").glob("*-values.yaml"))


def ci_values(name: str) -> Raw:
    values: Raw = yaml.safe_load((CHART / "ci" / name).read_text()) or {}
    return values


def render(
    values: Raw | None = None, *, name: str = "portway", namespace: str = NAMESPACE, chart: Path = CHART
) -> list[Raw]:
    """Return the objects of a release; raises the SDK's errors for values that the schema or a template refuses."""
    return list(_objects(_rendered(values, name, namespace, chart)))


def texts(values: Raw) -> dict[str, str]:
    """Return what each template with objects renders to."""
    rendered = _rendered(values, "portway", NAMESPACE)
    return {file: text for file, text in sorted(rendered.items()) if file.endswith(".yaml")}


def notes(values: Raw | None = None) -> str:
    """Return what `helm install` prints."""
    rendered = _rendered(values, "portway", NAMESPACE)
    return next(text for file, text in rendered.items() if file.endswith("NOTES.txt"))


def _rendered(values: Raw | None, name: str, namespace: str, path: Path = CHART) -> dict[str, str]:
    chart = _chart(path)
    chart.validate_schema(values)
    return chart.render(json.loads(json.dumps(values or {})), name=name, namespace=namespace)


def _objects(rendered: dict[str, str]) -> Iterator[Raw]:
    for file, text in sorted(rendered.items()):
        if file.endswith(".yaml"):
            yield from (found for found in yaml.safe_load_all(text) if found)


def find(objects: list[Raw], kind: str, name: str) -> Raw:
    """Return the one object of that kind and name."""
    [found] = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found
