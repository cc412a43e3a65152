"""What `make kind` tries, tried on the demo without a cluster; the shell scripts of the project are sound."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from network import Network, NoNetwork
from wire.command import portway

ROOT = Path(__file__).parents[2]
TRY = ROOT / "manifests" / "kind" / "try.sh"


@pytest.fixture
def network() -> Iterator[Network]:
    """A machine of its own, whose ports 8080, 8443 and 9000 are free."""
    try:
        network = Network()
    except NoNetwork as reason:
        if os.environ.get("PORTWAY_CLUSTER_TESTS") == "required":
            pytest.fail(str(reason))
        pytest.skip(str(reason))
    yield network
    network.close()


async def tried(network: Network) -> tuple[int, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *network.inside([str(TRY)]), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode().splitlines()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("nc")), reason="it needs curl and nc (netcat-openbsd)")
async def test_each_way_in_is_tried_and_said(network: Network) -> None:
    async with portway("demo", within=network.inside([])) as command:
        await command.serving()
        status, said = await tried(network)
    assert status == 0, said
    assert [line.partition(": ")[0] for line in said] == ["HTTP", "HTTP", "HTTP", "HTTPS", "TCP"]
    assert said[0] == "HTTP: sent by 5000"
    assert said[-1] == "TCP: hello"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", ["manifests/kind/try.sh", ".ci/run"])
def test_a_script_has_no_fault_that_shellcheck_knows(script: str) -> None:
    done = subprocess.run(["shellcheck", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == []


def test_make_kind_says_what_it_does_in_this_order() -> None:
    """What is run cannot be seen here, where there is no Docker; that it is said as it should be can."""
    done = subprocess.run(["make", "-n", "kind"], cwd=ROOT, capture_output=True, text=True, check=True)
    steps = [
        "docker build",
        "kind create cluster --config",
        "kind load docker-image portway:",
        "helm upgrade --install",
    ]
    steps += [
        "apply -f manifests/demo/apps.yaml",
        "apply -f manifests/demo/ingress.yaml",
        "kubectl --context kind-portway wait",
    ]
    places = [done.stdout.index(step) for step in [*steps, "./manifests/kind/try.sh"]]
    assert places == sorted(places)
    for path in ("manifests/kind/cluster.yaml", "manifests/kind/values.yaml", "manifests/demo/apps.yaml"):
        assert path in done.stdout
        assert (ROOT / path).is_file()
