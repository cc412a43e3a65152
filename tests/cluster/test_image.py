"""The image: built for real, and both halves run from it as nobody special, with a root that cannot be written to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import requires, version
from pathlib import Path

import pytest

from cluster.conftest import give_up
from cluster.image import Container, Image, NoImage, build
from cluster.kubectl import Kubectl
from cluster.pod_network import Pod
from cluster.replicas import Fleet, RunningProxy, shop, until
from cluster.rights import NAMESPACE

ROOT = Path(__file__).parents[2]
USER = 65532
ANY = ("--http-port", "0", "--https-port", "0", "--admin-port", "0", "--workers", "1")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if os.environ.get("PORTWAY_IMAGE_TESTS") != "required":
        pytest.skip("building the image takes minutes; PORTWAY_IMAGE_TESTS=required does it")
    directory = tmp_path_factory.mktemp("image")
    try:
        yield build(directory)
    except NoImage as reason:
        give_up(str(reason))
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory in memory that the image's user may write to: what a pod's containers share."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    os.chown(path, USER, USER)
    yield path
    shutil.rmtree(path)


def test_the_image_has_what_runs_and_nothing_that_builds(image: Image) -> None:
    assert image.config["User"] == f"{USER}:{USER}"
    assert image.config["Entrypoint"] == ["portway"]
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == "portway"
    assert labels["org.opencontainers.image.version"] == version("portway")
    for gone in ("src", "build", "wheel"):
        assert not (image.files / gone).exists()
    programs = {path.name for path in (image.files / "opt/portway/bin").iterdir()}
    assert "portway" in programs
    assert [name for name in programs if name.startswith("pip")] == []
    for place, names in (
        ("bin", {"cc", "gcc", "ld", "make", "pip", "pip3"}),
        ("lib", {"ensurepip", "pip", "setuptools"}),
    ):
        found = [path for path in image.files.rglob("*") if path.name in names and place in path.parts]
        assert found == [], place
    [package] = (image.files / "opt/portway").glob("lib/python3*/site-packages/portway_proxy")
    modules = {path.stem for path in package.glob("*.py")}
    assert {path.name.partition(".")[0] for path in (package / "__pycache__").iterdir()} >= modules
    assert [path for path in (image.files / "opt/portway").rglob("*") if path.stat().st_mode & 0o022] == []


def test_every_package_that_runs_has_a_wheel_for_arm64_too() -> None:
    if os.environ.get("PORTWAY_IMAGE_TESTS") != "required":
        pytest.skip("the index of packages is asked; PORTWAY_IMAGE_TESTS=required does it")
    wanted = [each for each in requires("portway") or () if "extra" not in each or "otel" in each]
    # Nothing is downloaded but what the packages say of themselves.
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--target", "none"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--constraint", str(ROOT / "constraints.txt")]
    for glibc in ("2_17", "2_28"):
        command += ["--platform", f"manylinux_{glibc}_aarch64"]
    done = subprocess.run(
        [*command, *(each.partition(";")[0] for each in wanted)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr[-2000:]) == (0, "")


async def test_both_halves_serve_from_it_as_nobody_special_with_a_read_only_root(
    image: Image, ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, shared: Path
) -> None:
    await shop(kubectl, namespace, pod)
    account = shared / "account"
    account.mkdir()
    (account / "token").write_text(await kubectl.token(NAMESPACE, "portway-operator"))
    (account / "ca.crt").write_bytes(ships.plane.ca_file.read_bytes())
    (account / "namespace").write_text(NAMESPACE)
    server = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(ships.plane.port)}
    mounts = {"/run/portway": shared}
    secrets = {"/run/secrets/kubernetes.io/serviceaccount": account}
    door = ("--stream-socket", "/run/portway/cfg.sock", "--health-port", "0")
    named = ("--pod-name", "operator", "--publish-status-address", "192.0.2.1")
    proxy_flags = ("--operator", "unix:///run/portway/cfg.sock", "--state-dir", "/run/portway/state")
    async with (
        image.run("operator", "operator", *door, *named, mounts=mounts | secrets, variables=server) as operator,
        image.run("proxy", "proxy", *proxy_flags, "--node", "proxy", *ANY, mounts=mounts, variables={}) as proxy,
    ):
        await until(_known(operator), 30, "the operator knows the cluster", operator.command)
        ports = [
            int(_last(await proxy.command.until(rf" {what} on \S+ port \d+$"))) for what in ("http", "https", "admin")
        ]
        running = RunningProxy(proxy.command, ships.client, *ports)
        await running.answers(f"{namespace}.example", "a")
        for container in (operator, proxy):
            _is_nobody_special(container)
        assert await proxy.stop() == 0, proxy.command.said
        assert await operator.stop() == 0, operator.command.said


def _known(operator: Container) -> Callable[[], Awaitable[bool]]:
    async def known() -> bool:
        return bool([line for line in operator.command.err if "the cluster is known" in line])

    return known


def _is_nobody_special(container: Container) -> None:
    status = (container.first() / "status").read_text()
    assert re.findall(r"^Uid:\s+(\d+)\s+(\d+)", status, re.MULTILINE) == [(str(USER), str(USER))]
    assert set(re.findall(r"^Cap\w+:\s+(\w+)", status, re.MULTILINE)) == {"0" * 16}
    assert re.findall(r"^NoNewPrivs:\s+(\d)", status, re.MULTILINE) == ["1"]
    root = next(line for line in (container.first() / "mountinfo").read_text().splitlines() if line.split()[4] == "/")
    assert root.split()[5].split(",")[0] == "ro"


def _last(line: str) -> str:
    return line.rpartition(" ")[2]
