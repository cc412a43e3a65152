"""A real control plane on 127.0.0.1: etcd, kube-apiserver with RBAC and audit log, kube-controller-manager."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import yaml

from cluster.authority import Authority
from cluster.binaries import Binaries
from portway_operator.sources.connection import Connection

__all__ = ["AuditEntry", "ControlPlane"]

_START_SECONDS = 60.0
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
_CONTROLLERS = ("endpointslice-controller", "namespace-controller", "garbage-collector-controller")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What somebody asked the API server for."""

    user: str
    verb: str
    resource: str
    subresource: str
    code: int
    uri: str


class ControlPlane:
    """The processes of a control plane and what its clients need to know; everything lives in `directory`."""

    def __init__(self, binaries: Binaries, directory: Path) -> None:
        self._binaries = binaries
        self._directory = directory
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._etcd_port, self._etcd_peer_port, self.port, self._controllers_port = _free_ports(4)
        self._authority = Authority.create(directory)
        self._admin = self._authority.issue("admin", "system:masters")
        self._serving = self._authority.issue("apiserver")
        (directory / "audit.yaml").write_text(yaml.safe_dump(_AUDIT))

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self._authority.ca_file

    @property
    def serving_certificate(self) -> tuple[Path, Path]:
        """The certificate and the key of the API server, which are good for anything on 127.0.0.1."""
        return self._serving

    def admin(self) -> Connection:
        """Return the connection of somebody who may do everything."""
        return Connection(self.url, ca_file=self.ca_file, certificate=self._admin)

    def start(self) -> None:
        """Start everything, and return when the API server is ready."""
        etcd = f"http://127.0.0.1:{self._etcd_port}"
        self._spawn(
            "etcd",
            self._binaries.etcd,
            f"--data-dir={self._directory / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{self._etcd_peer_port}",
            "--unsafe-no-fsync=true",
            "--log-level=warn",
        )
        self._await("etcd", f"{etcd}/health")
        self.start_apiserver()

    def _start_controllers(self) -> None:
        self._end("kube-controller-manager")
        self._spawn(
            "kube-controller-manager",
            self._binaries.controllers,
            f"--kubeconfig={self.kubeconfig()}",
            f"--controllers={','.join(_CONTROLLERS)}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._controllers_port}",
            f"--cert-dir={self._directory / 'controllers'}",
            "--authentication-skip-lookup=true",
        )

    def start_apiserver(self) -> None:
        """Start the API server (again, on the same port), and return when it is ready.

        The controllers begin anew too: left to themselves, they try again only half a minute after an outage.
        """
        certificate, key = self._serving
        # Without an address of its own and no reconciler, it needs no default route and makes no Endpoints of itself.
        self._spawn(
            "kube-apiserver",
            self._binaries.apiserver,
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--cert-dir={self._directory / 'apiserver'}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.ca_file}",
            "--authorization-mode=RBAC",
            f"--service-account-issuer={self.url}",
            f"--service-account-key-file={self._directory / 'sa.pub'}",
            f"--service-account-signing-key-file={self._directory / 'sa.key'}",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--disable-admission-plugins=ServiceAccount",
            f"--audit-log-path={self._directory / 'audit.log'}",
            f"--audit-policy-file={self._directory / 'audit.yaml'}",
            "--v=0",
        )
        self._await("kube-apiserver", f"{self.url}/readyz")
        self._start_controllers()

    def kill_apiserver(self) -> None:
        """Kill the API server, with every connection to it."""
        process = self._processes.pop("kube-apiserver")
        process.kill()
        process.wait()

    def stop_controllers(self) -> None:
        """End the controllers; whoever makes Services with a selector makes their EndpointSlices too from now on."""
        self._end("kube-controller-manager")

    def compact(self) -> None:
        """Make etcd forget its history: no watch resumes from before now, once the API server was started anew."""
        url = f"http://127.0.0.1:{self._etcd_port}/v3/kv"
        key = {"key": "AA=="}
        revision = _post(f"{url}/range", key | {"range_end": "AA==", "count_only": True})["header"]["revision"]
        _post(f"{url}/compaction", {"revision": revision, "physical": True})

    def stop(self) -> None:
        """End everything."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._end(name)

    def audit(self, user: str) -> list[AuditEntry]:
        """Return what `user` asked for so far."""
        entries = []
        for line in (self._directory / "audit.log").read_text().splitlines():
            raw = json.loads(line)
            if raw["user"].get("username") == user:
                reference = raw.get("objectRef", {})
                code = raw.get("responseStatus", {}).get("code", 0)
                resource = reference.get("resource", ""), reference.get("subresource", "")
                entries.append(AuditEntry(user, raw["verb"], *resource, code, raw["requestURI"]))
        return entries

    def _spawn(self, name: str, program: Path, *arguments: str) -> None:
        with (self._directory / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=subprocess.STDOUT)

    def _end(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _await(self, name: str, url: str) -> None:
        context = ssl.create_default_context(cafile=self.ca_file)
        context.load_cert_chain(*self._admin)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(url, timeout=5, context=context if "https" in url else None):
                    return
            except (urllib.error.URLError, OSError):
                code = self._processes[name].poll()
                if code is not None or time.monotonic() > deadline:
                    tail = (self._directory / f"{name}.log").read_text()[-2000:]
                    raise RuntimeError(f"{name} did not start (exit code {code}):\n{tail}") from None
            # There is nothing else to wait on: a program that starts tells nobody.
            threading.Event().wait(0.05)

    def kubeconfig(self) -> Path:
        """Return a kubeconfig of somebody who may do everything."""
        certificate, key = self._admin
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": {"server": self.url, "certificate-authority": str(self.ca_file)}}],
            "users": [{"name": "admin", "user": {"client-certificate": str(certificate), "client-key": str(key)}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
            "current-context": "here",
        }
        path = self._directory / "kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports


def _post(url: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, dict[str, str]] = json.load(response)
    return answer
