"""What a proxy is asked to serve in a row, and where: every peer turns the same scene into its own configuration."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["HOST", "Place", "Scene"]

HOST = "bench.example"
"""The host of a scene with a single route; those of others are `hN.bench.example`."""

_PATHS = 10


@dataclass(frozen=True)
class Scene:
    """One listener and what is behind it.

    With one route, `/` of `bench.example` leads to the endpoint; with more, ten paths of each of `routes / 10` hosts.
    `bulk` takes the endpoint of large bodies in the place of the one of small responses, `grpc` the one that speaks
    HTTP/2 in clear and answers as gRPC does.
    """

    protocol: Literal["http", "https", "tcp"] = "http"
    routes: int = 1
    bulk: bool = False
    grpc: bool = False

    def hosts(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each host with its path prefixes."""
        if self.routes == 1:
            yield HOST, ["/"]
            return
        for number in range(self.routes // _PATHS):
            yield f"h{number}.{HOST}", [f"/p{path}" for path in range(_PATHS)]


@dataclass(frozen=True)
class Place:
    """Where a peer lives: its own directory, the port it listens on, the endpoint's port, the certificate's files.

    `pem` holds the certificate and its key in one file. `spare` are ports for what else a peer must open.
    """

    directory: Path
    port: int
    spare: tuple[int, int]
    endpoint: int
    certificate: Path
    key: Path
    pem: Path

    @property
    def log(self) -> Path:
        """The file that takes the access log and everything the peer prints."""
        return self.directory / "access.log"

    def write(self, name: str, text: str) -> Path:
        """Write a file of the peer's configuration and return its path."""
        path = self.directory / name
        path.write_text(text)
        return path
