"""A real control plane for the whole session, and what the tests do with it."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import pytest_asyncio

from cluster.binaries import Unavailable, find_or_build
from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, kubectl_on
from cluster.pod_network import NoPodNetwork, Pod, PodNetwork
from cluster.replicas import Fleet, fleet
from cluster.rights import NAMESPACE, operator_rights
from cluster.wire import Wire

_numbers = itertools.count(1)


def give_up(reason: str) -> NoReturn:
    """Skip the tests here; fail them where they are required, as in continuous integration."""
    if os.environ.get("PORTWAY_CLUSTER_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    try:
        binaries = find_or_build()
    except Unavailable as reason:
        give_up(f"no control plane: {reason}")
    plane = ControlPlane(binaries, tmp_path_factory.mktemp("control-plane"))
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()


@pytest.fixture(scope="session")
def pod_network() -> Iterator[PodNetwork]:
    try:
        network = PodNetwork()
    except NoPodNetwork as reason:
        give_up(str(reason))
    yield network
    network.close()


@pytest_asyncio.fixture
async def kubectl(control_plane: ControlPlane) -> AsyncIterator[Kubectl]:
    """A cluster with a node, our IngressClass, and the operator's rights."""
    async with kubectl_on(control_plane.admin()) as kubectl:
        await kubectl.apply(
            *operator_rights(),
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}},
            {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "IngressClass",
                "metadata": {"name": "portway"},
                "spec": {"controller": "portway.dev/ingress-controller"},
            },
        )
        yield kubectl


@pytest_asyncio.fixture
async def namespace(kubectl: Kubectl) -> str:
    """A namespace that no other test has."""
    name = f"test-{next(_numbers)}"
    await kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest_asyncio.fixture
async def wire(control_plane: ControlPlane) -> AsyncIterator[Wire]:
    wire = Wire(control_plane.port)
    await wire.mend()
    yield wire
    await wire.cut()


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    return tmp_path / "token"


@pytest_asyncio.fixture
async def ships(control_plane: ControlPlane, kubectl: Kubectl, tmp_path: Path) -> AsyncIterator[Fleet]:
    """A fleet whose first operator leads at once, whatever operators before left behind."""
    for lease in await kubectl.list("Lease", NAMESPACE):
        await kubectl.delete("Lease", lease["metadata"]["name"], NAMESPACE)
    async with fleet(control_plane, kubectl, tmp_path) as ships:
        yield ships


@pytest_asyncio.fixture
async def pod(pod_network: PodNetwork) -> AsyncIterator[Pod]:
    """A server on a pod's address."""
    pod = Pod(pod_network, 0, "a")
    await pod.start()
    yield pod
    await pod.stop()
