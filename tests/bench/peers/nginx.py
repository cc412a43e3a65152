"""nginx as a reverse proxy, configured as ingress-nginx does where that costs something."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from bench.peers.peer import Peer
from bench.processes import output
from bench.scene import Place, Scene

__all__ = ["Nginx"]

_MAIN = """
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
{user}
events {{ worker_connections 16384; multi_accept on; }}
http {{
  log_format bench '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" '
                   '"$http_user_agent" $request_length $request_time $upstream_addr $upstream_response_time '
                   '$request_id';
  access_log {log} bench{log_buffer};
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 128;
  keepalive_timeout 75s;
  client_max_body_size 0;
  server_names_hash_max_size 65536;
  client_body_temp_path {directory};
  proxy_temp_path {directory};
  fastcgi_temp_path {directory};
  uwsgi_temp_path {directory};
  scgi_temp_path {directory};
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_protocols TLSv1.3;
  upstream endpoint {{
    server 127.0.0.1:{endpoint};
    keepalive 320;
    keepalive_requests 1000000000;
  }}
  grpc_set_header Host $http_host;
  grpc_set_header X-Request-ID $request_id;
  grpc_set_header X-Real-IP $remote_addr;
  grpc_set_header X-Forwarded-For $remote_addr;
  grpc_set_header X-Forwarded-Host $http_host;
  grpc_set_header X-Forwarded-Port $server_port;
  grpc_set_header X-Forwarded-Proto $scheme;
  proxy_http_version 1.1;
  proxy_buffering {buffering};
  proxy_request_buffering {buffering};
  proxy_set_header Connection "";
  proxy_set_header Host $http_host;
  proxy_set_header X-Request-ID $request_id;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $remote_addr;
  proxy_set_header X-Forwarded-Host $http_host;
  proxy_set_header X-Forwarded-Port $server_port;
  proxy_set_header X-Forwarded-Proto $scheme;
  server {{ listen 127.0.0.1:{port}{tls} default_server backlog=4096; return 404; }}
{servers}
}}
"""


class Nginx(Peer):
    """nginx with one worker; `log_buffer` batches its access log, `streaming` turns the buffering of bodies off."""

    def __init__(self, *, log_buffer: bool = True, streaming: bool = False) -> None:
        self._log_buffer = log_buffer
        self._streaming = streaming

    @property
    def label(self) -> str:
        """Its name, with what departs from the ordinary contender."""
        traits = [
            trait
            for trait, here in (("a write per line", not self._log_buffer), ("streaming", self._streaming))
            if here
        ]
        return ", ".join(["nginx", *traits])

    @property
    def note(self) -> str:
        """What the contender of this label has on."""
        log = "access log in batches of 64 KiB" if self._log_buffer else "access log a write per line, its default"
        bodies = "bodies streamed" if self._streaming else "bodies buffered, its default"
        return f"1 worker, keep-alive to the endpoint, {log}, {bodies}"

    def missing(self) -> str:
        """Return the package to install when there is no nginx."""
        return "" if shutil.which("nginx") else "apt-get install nginx"

    def version(self) -> str:
        """Return what `nginx -v` says."""
        return output(["nginx", "-v"], 5).strip().rpartition("/")[2]

    def command(self, scene: Scene, place: Place) -> list[str]:
        """Write `nginx.conf`."""
        text = _MAIN.format(
            directory=place.directory,
            user="user root;" if os.geteuid() == 0 else "",
            log=place.log,
            log_buffer=" buffer=64k flush=1s" if self._log_buffer else "",
            certificate=place.certificate,
            key=place.key,
            endpoint=place.endpoint,
            buffering="off" if self._streaming else "on",
            port=place.port,
            tls=_tls(scene),
            servers="\n".join(_servers(scene, place)),
        )
        return ["nginx", "-p", str(place.directory), "-c", str(place.write("nginx.conf", text))]


def _tls(scene: Scene) -> str:
    return " ssl http2" if scene.protocol == "https" else ""


def _servers(scene: Scene, place: Place) -> Iterator[str]:
    for host, paths in scene.hosts():
        yield f"  server {{ listen 127.0.0.1:{place.port}{_tls(scene)}; server_name {host};"
        for path in paths:
            passed = "grpc_pass grpc" if scene.grpc else "proxy_pass http"
            yield f"    location {path} {{ {passed}://endpoint; }}"
        yield "  }"
