"""How `portway proxy` reaches `portway operator` without a token: by a certificate that it made, or a socket."""

from __future__ import annotations

import asyncio
import base64
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from cluster.kubectl import Kubectl
from cluster.operating import ingress
from cluster.pod_network import Pod
from cluster.replicas import Fleet, shop, until
from cluster.rights import NAMESPACE, USER

HERE = ("--publish-status-address", "192.0.2.1")
SECRET = "portway-proxy-certificate"


@pytest.fixture
def shared() -> Iterator[Path]:
    """What the containers of a pod share: a directory in memory."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


async def test_with_certificates_of_the_operators_own_nobody_needs_a_token(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, shared: Path
) -> None:
    before = len(ships.plane.audit(USER))
    await shop(kubectl, namespace, pod)
    operator = await ships.operator(*HERE, "--proxy-auth", "mtls", "--proxy-certificate-secret", SECRET)
    authority = await ships.authority()

    async def mounted() -> bool:
        """Bring the certificate into the proxy's pod, as the kubelet does."""
        try:
            data = (await kubectl.get("Secret", SECRET, NAMESPACE))["data"]
        except aiohttp.ClientResponseError:
            return False
        for name in ("tls.crt", "tls.key"):
            await asyncio.to_thread((shared / name).write_bytes, base64.b64decode(data[name]))
        return True

    await until(mounted, 20, "the operator makes a certificate for proxies", operator.command)
    url = f"https://127.0.0.1:{operator.stream_port}"
    trust = ["--operator", url, "--ca-file", str(authority)]
    ours = ["--client-cert", str(shared / "tls.crt"), "--client-key", str(shared / "tls.key")]
    proxy = await ships.follower(*trust, *ours, name="proxy-0")
    await proxy.answers(f"{namespace}.example", "a")
    await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
    await proxy.answers(f"late.{namespace}.example", "a")

    stranger = await ships.follower(*trust, name="proxy-1")
    await stranger.command.until("no operator to follow")
    assert (await stranger.page("/readyz"))[0] == 503
    assert await operator.metric("proxies") == 1
    entries = ships.plane.audit(USER)[before:]
    assert [entry for entry in entries if entry.code == 403] == []
    assert [entry for entry in entries if entry.resource == "tokenreviews"] == []


async def test_in_one_pod_a_socket_is_the_only_door(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod, shared: Path
) -> None:
    await shop(kubectl, namespace, pod)
    socket = shared / "cfg.sock"
    operator = await ships.operator(*HERE, "--stream-socket", str(socket))
    proxy = await ships.follower("--operator", f"unix://{socket}", name="proxy-0")
    await proxy.answers(f"{namespace}.example", "a")
    assert socket.stat().st_mode & 0o777 == 0o660
    await kubectl.apply(ingress(namespace, "late", host=f"late.{namespace}.example"))
    await proxy.answers(f"late.{namespace}.example", "a")
    assert await operator.metric("proxies") == 1
