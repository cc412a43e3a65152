"""HAProxy, for HTTP and for opaque bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from bench.peers.peer import Peer
from bench.processes import output
from bench.scene import Place, Scene

__all__ = ["HAProxy"]

_MAIN = """
global
  nbthread 1
  maxconn 3000
  log stdout format raw local0 info
defaults
  log global
  timeout connect 5s
  timeout client 75s
  timeout server 75s
  timeout http-keep-alive 75s
"""

_HTTP = """
frontend http
  mode http
  option httplog
  bind 127.0.0.1:{port} backlog 4096{tls}
  unique-id-format %{{+X}}o%ci%cp%Ts%rt%pid
  unique-id-header X-Request-ID
  http-request set-header X-Real-IP %[src]
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Port %[dst_port]
  http-request set-header X-Forwarded-Proto {scheme}
{rules}
backend endpoint
  mode http
  http-reuse always
  server endpoint 127.0.0.1:{endpoint}
"""

_TCP = """
listen tcp
  mode tcp
  option tcplog
  bind 127.0.0.1:{port} backlog 4096
{splice}
  server endpoint 127.0.0.1:{endpoint}
"""


class HAProxy(Peer):
    """HAProxy with one thread; `splice` lets the kernel move opaque bytes."""

    def __init__(self, *, splice: bool = False) -> None:
        self._splice = splice

    @property
    def label(self) -> str:
        """Its name, with `splice` when that is on."""
        return "haproxy, splice" if self._splice else "haproxy"

    @property
    def note(self) -> str:
        """What is on."""
        splice = ", options splice-request and splice-response" if self._splice else ""
        return f"1 thread, keep-alive to the endpoint (http-reuse always), access log a write per line{splice}"

    def missing(self) -> str:
        """Return the package to install when there is no haproxy."""
        return "" if shutil.which("haproxy") else "apt-get install haproxy"

    def version(self) -> str:
        """Return what `haproxy -v` says."""
        return output(["haproxy", "-v"], 5).split()[2]

    def command(self, scene: Scene, place: Place) -> list[str]:
        """Write `haproxy.cfg`; its log goes to standard output."""
        if scene.protocol == "tcp":
            splice = "  option splice-request\n  option splice-response" if self._splice else ""
            rest = _TCP.format(port=place.port, endpoint=place.endpoint, splice=splice)
        else:
            tls = f" ssl crt {place.pem} ssl-min-ver TLSv1.3 alpn h2,http/1.1" if scene.protocol == "https" else ""
            rest = _HTTP.format(
                port=place.port,
                endpoint=place.endpoint,
                tls=tls,
                scheme=scene.protocol,
                rules="\n".join(_rules(scene)),
            )
        return ["haproxy", "-db", "-f", str(place.write("haproxy.cfg", _MAIN + rest))]


def _rules(scene: Scene) -> Iterator[str]:
    for host, paths in scene.hosts():
        for path in paths:
            yield f"  use_backend endpoint if {{ req.hdr(host) -i {host} }} {{ path_beg {path} }}"
