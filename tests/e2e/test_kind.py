"""`make kind` on a machine with Docker and kind: the cluster that people get, made, tried and removed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("docker", "kind", "helm", "kubectl", "curl", "nc")


def _make(target: str) -> str:
    done = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, f"make {target}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture
def tools() -> None:
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if not missing and subprocess.run(["docker", "info"], capture_output=True, timeout=60, check=False).returncode:
        missing = ["a Docker daemon"]
    if missing:
        reason = f"kind needs {', '.join(missing)}"
        if os.environ.get("PORTWAY_KIND_TESTS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def said(tools: None) -> Iterator[str]:
    """What `make kind` says."""
    yield _make("kind")
    _make("kind-down")


def test_the_demo_answers_on_the_ports_of_the_machine_and_helms_own_test_passes(said: str) -> None:
    lines = said.splitlines()
    for begin in ("HTTP: sent by 5000", "HTTP: sent by 5001", "HTTPS: ", "TCP: hello"):
        assert [line for line in lines if line.startswith(begin)], said
    command = ["helm", "test", "portway", "--kube-context", "kind-portway", "--namespace", "portway"]
    subprocess.run(command, check=True, timeout=300)
