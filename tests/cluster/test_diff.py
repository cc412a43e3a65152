"""`portway diff` on a real API server: what a cluster has now, beside files."""

from __future__ import annotations

import copy
from pathlib import Path

import yaml

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, judged, service


async def diff(plane: ControlPlane, namespace: str, *sides: str) -> tuple[int, Raw]:
    """Return the status and the difference, of one namespace."""
    return await judged(plane, namespace, "diff", *sides, "--format", "json")


async def test_a_guard_that_the_files_lack_is_lost_and_one_that_they_have_is_not(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str, tmp_path: Path
) -> None:
    guarded = ingress(namespace, "guarded", "diff.example")
    guarded["metadata"]["annotations"] = {"portway.dev/allow-source-range": "10.0.0.0/8"}
    opened = copy.deepcopy(guarded)
    opened["metadata"]["annotations"] = {"portway.dev/allow-source-range": "10.0.0.0/8,192.0.2.0/24"}
    objects: list[Raw] = [service(namespace), guarded]
    await kubectl.apply(*objects)
    (tmp_path / "same.yaml").write_text(yaml.safe_dump_all(objects))
    (tmp_path / "opened.yaml").write_text(yaml.safe_dump_all([service(namespace), opened]))
    status, found = await diff(control_plane, namespace, "cluster:", str(tmp_path / "same.yaml"))
    assert (status, found["findings"]) == (0, [])
    status, found = await diff(control_plane, namespace, "cluster:", str(tmp_path / "opened.yaml"))
    assert status == 4
    first = found["findings"][0]
    assert (first["kind"], first["host"], first["path"]) == ("networks_widened", "diff.example", "/")
    assert first["before"]["namespace"] == namespace
    status, applied = await diff(control_plane, namespace, "cluster:", f"cluster:+{tmp_path / 'opened.yaml'}")
    assert (status, applied["findings"]) == (4, found["findings"])
