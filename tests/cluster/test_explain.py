"""`portway explain` on a real API server: what a request comes to, by what the cluster has."""

from __future__ import annotations

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, judged, service


async def explain(plane: ControlPlane, namespace: str, *arguments: str) -> tuple[int, Raw]:
    """Return the status and what is said of a request to one namespace."""
    return await judged(plane, namespace, "explain", *arguments, "--json")


async def test_a_request_is_explained_by_what_the_server_lists(
    control_plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    guarded = ingress(namespace, "guarded", "guarded.example")
    guarded["metadata"]["annotations"] = {"portway.dev/allow-source-range": "10.0.0.0/8"}
    await kubectl.apply(service(namespace), guarded)
    status, found = await explain(control_plane, namespace, "http://guarded.example/", "--client-ip", "192.0.2.1")
    assert (status, found["outcome"]["status"], found["outcome"]["reason"]) == (1, 403, "forbidden")
    assert found["route"]["origin"] == f"Ingress {namespace}/guarded spec.rules[0].http.paths[0]"
    (allow,) = (part for part in found["policies"] if part["name"] == "allow")
    assert (allow["source"], allow["does"]) == (
        "annotation portway.dev/allow-source-range",
        "answers 403 (forbidden)",
    )
    # Let in, the request comes to a Service that nobody stands behind.
    status, found = await explain(control_plane, namespace, "http://guarded.example/", "--client-ip", "10.0.0.1")
    assert (status, found["outcome"]["reason"]) == (1, "no_endpoints")
    assert found["upstream"].startswith(f"{namespace}/")
