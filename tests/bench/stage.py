"""What all rows share: cores, a directory in memory, a certificate, and the endpoints behind every proxy."""

from __future__ import annotations

import datetime
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.processes import free_port, pinned, started
from bench.scene import HOST, Place, Scene

__all__ = ["BULK", "CALL", "Cores", "Stage", "opened"]

BULK = Path(__file__).with_name("bulk.py")
"""The program that moves bodies."""

CALL = "/bench/Greeter.Say"
"""The method of gRPC that is called."""

_SMALL = "sent by the endpoint of the benchmark: sixty-nine bytes, no more.....\n"[:69]
_MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one."""

_ROOM = 2 << 30  # Six contenders write 200 bytes a request.

_ENDPOINT = """
daemon off;
worker_processes 1;
pid {directory}/endpoint.pid;
error_log stderr error;
{user}
events {{ worker_connections 32768; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {directory};
  proxy_temp_path {directory};
  fastcgi_temp_path {directory};
  uwsgi_temp_path {directory};
  scgi_temp_path {directory};
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    default_type text/plain;
    location / {{ return 200 "{small}"; }}
    location /visit/ {{ add_header ETag '"$request_id"'; return 200 "{small}"; }}
  }}
}}
"""


@dataclass(frozen=True)
class Cores:
    """The cores of the proxy, of the load generator and of the endpoint; equal where the machine has too few."""

    proxy: int
    load: int
    endpoint: int

    @property
    def across(self) -> int:
        """The core of an endpoint that is not the load's: as far from it as an endpoint on another machine is."""
        return self.proxy if self.endpoint == self.load else self.endpoint

    @classmethod
    def choose(cls) -> Cores:
        """Take the first cores that this process may use."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[min(1, len(cores) - 1)], cores[min(2, len(cores) - 1)])


class Stage:
    """The running surroundings of a benchmark; `opened` makes one."""

    def __init__(self, directory: Path, cores: Cores) -> None:
        self.directory = directory
        self.cores = cores
        self.port = free_port()
        self.bulk_port = free_port()
        self.grpc_port = free_port()
        self.across_port = self.bulk_port if cores.across == cores.endpoint else free_port()
        self._numbers = count()

    def place(self, name: str, scene: Scene) -> Place:
        """Return a new directory and ports for a peer that plays `scene`."""
        directory = self.directory / f"{next(self._numbers)}-{name}"
        directory.mkdir()
        return Place(
            directory=directory,
            port=free_port(),
            spare=(free_port(), free_port()),
            endpoint=self.bulk_port if scene.bulk else self.grpc_port if scene.grpc else self.port,
            certificate=self.directory / "tls.crt",
            key=self.directory / "tls.key",
            pem=self.directory / "tls.pem",
        )


@contextmanager
def opened() -> Iterator[Stage]:
    """Start the endpoints and make what the peers need; all of it is gone afterwards."""
    directory = Path(tempfile.mkdtemp(prefix="portway-bench-", dir=_MEMORY if _roomy(_MEMORY) else None))
    try:
        stage = Stage(directory, Cores.choose())
        _write_certificate(directory)
        user = "user root;" if os.geteuid() == 0 else ""
        configuration = directory / "endpoint.conf"
        configuration.write_text(_ENDPOINT.format(directory=directory, user=user, port=stage.port, small=_SMALL))
        log = directory / "endpoint.log"
        nginx = pinned(stage.cores.endpoint, ["nginx", "-p", str(directory), "-c", str(configuration)])
        places = {stage.bulk_port: stage.cores.endpoint, stage.across_port: stage.cores.across}
        with ExitStack() as running:
            running.enter_context(started(nginx, log))
            if shutil.which("nghttpd"):
                running.enter_context(started(pinned(stage.cores.endpoint, _calls(directory, stage.grpc_port)), log))
            for port, core in places.items():
                running.enter_context(started(pinned(core, [sys.executable, str(BULK), "serve", str(port)]), log))
            yield stage
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _calls(directory: Path, port: int) -> list[str]:
    """Return the command of an endpoint that answers calls of gRPC: HTTP/2 in clear, a message, a status behind it."""
    answer = directory / CALL.removeprefix("/")
    answer.parent.mkdir()
    answer.write_bytes(b"\0\0\0\0\x45" + _SMALL.encode())
    (directory / "index.html").write_text(_SMALL)  # For those who ask whether a proxy serves yet.
    types = directory / "mime.types"
    types.write_text(f"application/grpc {CALL.rpartition('.')[2]}\n")
    command = ["nghttpd", "--no-tls", "--address=127.0.0.1", f"--htdocs={directory}", f"--mime-types-file={types}"]
    return [*command, "--trailer=grpc-status: 0", "--max-concurrent-streams=1000", str(port)]


def _roomy(path: Path) -> bool:
    return os.access(path, os.W_OK) and shutil.disk_usage(path).free > _ROOM


def _write_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    chain = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for suffix, data in (("crt", chain), ("key", private), ("pem", chain + private)):
        (directory / f"tls.{suffix}").write_bytes(data)
