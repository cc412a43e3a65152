"""Builds the image as the Dockerfile says, and runs it as a kubelet does, without any registry of images.

Its base is a Debian of debootstrap's, made once into a cache outside the clone. podman builds; runc runs, with a
configuration of ours: user, arguments and environment are the image's, the root is read-only, capabilities are none.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wire.command import Command

__all__ = ["Container", "Image", "NoImage", "build"]

_ROOT = Path(__file__).parents[2]
_PROGRAMS = ("podman", "runc", "debootstrap")
_BASE = "localhost/portway-base"
_PACKAGES = "python3,python3-venv,ca-certificates"
_SECONDS = 900.0
_CAPABILITIES = ("bounding", "effective", "permitted", "inheritable", "ambient")
# What pip needs on machines that reach its index in a way of their own.
_OF_THE_HOST = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")


class NoImage(Exception):
    """The image cannot be built on this machine; the message says why."""


@dataclass(frozen=True)
class Image:
    """A built image: where its files are mounted, and what it says of itself."""

    files: Path
    config: Mapping[str, Any]
    directory: Path

    @asynccontextmanager
    async def run(
        self, name: str, *arguments: str, mounts: Mapping[str, Path], variables: Mapping[str, str]
    ) -> AsyncIterator[Container]:
        """Run it in the host's network; `mounts` are directories of the host by their places in the container."""
        bundle = self.directory / name
        bundle.mkdir()
        (bundle / "config.json").write_text(json.dumps(self._bundle(name, arguments, mounts, variables)))
        state = str(self.directory / "runc")
        process = await asyncio.create_subprocess_exec(
            *("runc", "--root", state, "run", "--bundle", str(bundle), name),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        container = Container(Command(process), name, state)
        try:
            yield container
        finally:
            command = ["runc", "--root", state, "delete", "--force", name]
            await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
            await container.command.ended()

    def _bundle(
        self, name: str, arguments: tuple[str, ...], mounts: Mapping[str, Path], variables: Mapping[str, str]
    ) -> dict[str, Any]:
        user, group = map(int, self.config["User"].split(":"))
        none: dict[str, list[str]] = {name: [] for name in _CAPABILITIES}
        memory = ["nosuid", "nodev"]
        return {
            "ociVersion": "1.0.0",
            "hostname": name,
            "process": {
                "user": {"uid": user, "gid": group},
                "args": [*self.config["Entrypoint"], *arguments],
                "env": [*self.config["Env"], *(f"{key}={value}" for key, value in variables.items())],
                "cwd": self.config.get("WorkingDir") or "/",
                "capabilities": none,
                "noNewPrivileges": True,
            },
            "root": {"path": str(self.files), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*memory, "mode=1777"]},
                {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": [*memory, "mode=755"]},
                *(
                    {"destination": place, "type": "bind", "source": str(source), "options": ["bind", *memory]}
                    for place, source in mounts.items()
                ),
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]},
        }


@dataclass
class Container:
    """A running container."""

    command: Command
    name: str
    state: str

    def first(self) -> Path:
        """Return /proc of its process 1, as the host sees it."""
        told = subprocess.run(["runc", "--root", self.state, "state", self.name], check=True, capture_output=True)
        return Path("/proc") / str(json.loads(told.stdout)["pid"])

    async def stop(self) -> int:
        """End it by SIGTERM, as a kubelet does, and return its status."""
        command = ["runc", "--root", self.state, "kill", self.name, "TERM"]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        return await self.command.ended()


def build(directory: Path) -> Image:
    """Build the image of this checkout; raises `NoImage` where a program for that is missing."""
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing or os.geteuid() != 0:
        raise NoImage(
            f"building an image needs root and {', '.join(_PROGRAMS)}; missing: {', '.join(missing) or 'root'}"
        )
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "portway" / "images"
    cache.mkdir(parents=True, exist_ok=True)
    tag = f"localhost/portway:test-{os.getpid()}"
    if not _podman(cache, "images", "--quiet", _BASE):
        _make_base(cache, directory)
    volumes = [f"--volume={path}:{path}:ro" for path in _OF_THE_HOST if Path(path).exists()]
    _podman(
        *(cache, "build", "--isolation=chroot", "--network=host", f"--build-arg=BASE={_BASE}", "--layers=false"),
        f"--build-arg=VERSION={version('portway')}",
        *(*volumes, f"--tag={tag}", str(_ROOT)),
    )
    try:
        [told] = json.loads(_podman(cache, "image", "inspect", tag))
        files = directory / "files"
        _run("cp", "--archive", _podman(cache, "image", "mount", tag).strip(), str(files))
    finally:
        _podman(cache, "image", "unmount", tag)
        _podman(cache, "image", "rm", "--force", tag)
        _podman(cache, "image", "prune", "--force")
    return Image(files, told["Config"], directory)


def _make_base(cache: Path, directory: Path) -> None:
    files = directory / "base"
    _run("debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm", str(files))
    archive = directory / "base.tar"
    _run("tar", "-C", str(files), "-cf", str(archive), ".")
    _podman(cache, "import", str(archive), _BASE)
    archive.unlink()
    shutil.rmtree(files)


def _podman(cache: Path, *arguments: str) -> str:
    own = [f"--root={cache}", f"--runroot={cache}/run", "--runtime=runc", "--cgroup-manager=cgroupfs"]
    return _run("podman", *own, "--storage-driver=vfs", *arguments)


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        raise AssertionError(f"{' '.join(command)}:\n{error.stdout[-2000:]}{error.stderr[-4000:]}") from None
    return done.stdout
