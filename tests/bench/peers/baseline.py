"""The baseline: what Python's usual libraries cost in the same place."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from bench.peers.peer import Peer
from bench.scene import Place, Scene

__all__ = ["Baseline"]


class Baseline(Peer):
    """`aiohttp_proxy.py`: a server and a client of aiohttp on uvloop."""

    label = "aiohttp"
    note = "ten lines of server and client on uvloop, one process, no access log"

    def missing(self) -> str:
        """Return nothing: aiohttp is a dependency of Portway itself."""
        return ""

    def version(self) -> str:
        """Return the version of the package."""
        return metadata.version("aiohttp")

    def command(self, scene: Scene, place: Place) -> list[str]:  # noqa: ARG002  # ten lines know no scenes
        """Return the command; there is no configuration."""
        program = Path(__file__).with_name("aiohttp_proxy.py")
        return [sys.executable, "-P", str(program), str(place.port), str(place.endpoint)]
