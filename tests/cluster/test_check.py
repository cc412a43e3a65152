"""`portway check` on a real API server: what it finds, and that it only lists."""

from __future__ import annotations

import asyncio
import json
import sys

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service

NGINX = "nginx.ingress.kubernetes.io/"


async def check(plane: ControlPlane, namespace: str, *flags: str) -> tuple[int, Raw]:
    """Return the status and the report of a check of one namespace."""
    where = ("--kubeconfig", str(plane.kubeconfig()), "--watch-namespace", namespace, "--format", "json", *flags)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "portway_operator", "check", *where, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out)


def annotated(namespace: str, name: str, host: str, **annotations: str) -> Raw:
    made = ingress(namespace, name, host)
    made["metadata"]["annotations"] = {NGINX + key.replace("_", "-"): value for key, value in annotations.items()}
    return made


async def test_a_namespace_is_judged_by_what_the_server_lists(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    settings = f"{namespace}/settings"
    await kubectl.apply(
        service(namespace),
        annotated(namespace, "guarded", "a.example", auth_type="basic", auth_secret="none"),
        annotated(namespace, "refused", "b.example", server_snippet="return 444;", custom_headers="fields"),
        annotated(namespace, "told", "c.example", custom_http_errors="404", default_backend="gone"),
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", "namespace": namespace},
            "data": {"worker-processes": "4", "global-allowed-response-headers": "X-Team"},
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "fields", "namespace": namespace},
            "data": {"X-Team": "shop"},
        },
    )
    status, report = await check(control_plane, namespace, "--configmap", settings)
    text = json.dumps(report)
    assert status == 1
    assert f"There is no Secret {namespace}/none" in text
    assert f"There is no Service {namespace}/gone" in text
    assert "Text of nginx's configuration is never executed." in text
    assert "Portway has no processes of nginx" in text
    # The ConfigMap of fields that an annotation names was read by its name.
    assert f"no ConfigMap {namespace}/fields" not in text


async def test_a_namespace_with_nothing_to_know_is_status_0(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    status, report = await check(control_plane, namespace)
    assert (status, report.get("ingresses", [])) == (0, [])
