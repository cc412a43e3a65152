"""The chart's objects for every values file, as a real API server would store them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from chart.rendering import ci_files, ci_values, render
from chart.test_chart import CLUSTERED, FOREIGN
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw, kubectl_on

NAMESPACE = "reviewed"


@pytest_asyncio.fixture
async def kubectl(control_plane: ControlPlane) -> AsyncIterator[Kubectl]:
    async with kubectl_on(control_plane.admin()) as kubectl:
        yield kubectl


@pytest.mark.parametrize("file", ci_files())
async def test_the_api_server_would_store_every_object(kubectl: Kubectl, file: str) -> None:
    objects = [raw for raw in render(ci_values(file), namespace=NAMESPACE) if raw["kind"] not in FOREIGN]
    for raw in objects:
        if raw["kind"] not in CLUSTERED:  # Helm puts what names no namespace into the release's.
            raw["metadata"].setdefault("namespace", NAMESPACE)
    spaces = {raw["metadata"]["namespace"] for raw in objects if "namespace" in raw["metadata"]}
    await kubectl.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in spaces))
    refused = []
    for raw in objects:
        try:
            stored = await kubectl.review(raw)
        except aiohttp.ClientResponseError as error:
            refused.append(f"{raw['kind']} {raw['metadata']['name']}: {error.message}")
        else:
            refused += _lost(raw, stored)
    assert refused == []


def _lost(raw: Raw, stored: Raw) -> list[str]:
    """Return what of the labels would not be stored."""
    labels = raw["metadata"].get("labels", {})
    return [] if stored["metadata"].get("labels", {}) == labels else [f"{raw['kind']}: {labels}"]
