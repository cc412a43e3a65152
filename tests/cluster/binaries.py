"""Finds the programs of a control plane, or builds them once as Go modules into a cache outside the clone.

`PYTHONPATH=tests python -m cluster.binaries` builds them ahead of the tests (ten minutes on two cores, then never
again).
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from go_programs import ENVIRONMENT, Unavailable, build, cached, find_go

__all__ = ["Binaries", "Unavailable", "find_or_build"]

_MODULE = Path(__file__).parent
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs of a control plane."""

    etcd: Path
    apiserver: Path
    controllers: Path
    """kube-controller-manager."""


def find_or_build() -> Binaries:
    """Return the programs from `KUBEBUILDER_ASSETS`, the cache, or a build; raises `Unavailable`."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets:
        return _from_directory(Path(assets), "KUBEBUILDER_ASSETS")
    with cached(_MODULE) as directory:
        for name, package in _PACKAGES.items():
            if not (directory / name).is_file():
                go = find_go(f", or point KUBEBUILDER_ASSETS at a directory with {', '.join(_PACKAGES)}")
                options = ["-tags=notest,grpcnotrace", "-ldflags", _linker_flags(go)]
                build(go, package, directory / name, _MODULE, options)
        return _from_directory(directory, str(directory))


def _from_directory(directory: Path, origin: str) -> Binaries:
    missing = [name for name in _PACKAGES if not (directory / name).is_file()]
    if missing:
        raise Unavailable(f"{origin} has no {' and no '.join(missing)}")
    return Binaries(*(directory / name for name in _PACKAGES))


def _linker_flags(go: str) -> str:
    """Return flags that give the programs their version; without it every version check of a client fails."""
    listed = subprocess.run(
        [go, "list", "-m", "-json", "k8s.io/kubernetes"],
        cwd=_MODULE,
        env=os.environ | ENVIRONMENT,
        check=True,
        capture_output=True,
    )
    version = str(json.loads(listed.stdout)["Version"])
    major, minor = version.removeprefix("v").split(".")[:2]
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    flags = ["-s", "-w"]
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        flags += [f"-X {package}.{name}={value}" for name, value in values.items()]
    return " ".join(flags)


if __name__ == "__main__":
    print(find_or_build())
