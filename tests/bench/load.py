"""The load generators: `wrk` for many small exchanges, `bulk.py` for bodies, and connections that only wait."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

from bench.processes import Fault, output, pinned
from bench.scene import HOST, Scene
from bench.stage import BULK, CALL, Stage

__all__ = [
    "CLOSING",
    "FAST",
    "KNOWN",
    "PACED",
    "VARIED",
    "Bodies",
    "Load",
    "Manner",
    "Traffic",
    "answer",
    "bodies",
    "h2load",
    "handshakes",
    "held",
    "pings",
    "wrk",
    "wrk_missing",
]

_FIELDS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding: gzip, deflate",
)

_CALL = ("User-Agent: grpc-c++/1.62.0 grpc-c/39.0.0 (linux; chttp2)", "Content-Type: application/grpc", "TE: trailers")
_MESSAGE = b"\0\0\0\0\x0e\x0a\x0ca dozen bytes"[:19]  # Its frame, and a string in protobuf.

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}

# Requests are made once and sent in an order that jumps about, so that no cache profits from neighbours.
_SPREAD = """
local requests, at = {{}}, 0
function init(args)
  for number = 0, {routes} - 1 do
    wrk.headers["Host"] = string.format("h%d.{host}", math.floor(number / 10))
    requests[number + 1] = wrk.format("GET", string.format("/p%d/item", number % 10))
  end
end
function request()
  at = (at + 7919) % {routes}
  return requests[at + 1]
end
"""


_VISITS = """
local requests, at = {}, 0
function init(args)
  math.randomseed(7)
  for number = 1, 10000 do
    local id = string.format("%06x%06x%06x", math.random(2^24) - 1, math.random(2^24) - 1, math.random(2^24) - 1)
    wrk.headers["Cookie"] = "session=" .. id .. "; theme=light; consent=all"
    requests[number] = wrk.format("GET", "/visit/" .. number)
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"""


class Running(Protocol):
    """A proxy under load: where it stands, what it serves, on which port."""

    stage: Stage
    scene: Scene
    port: int


@dataclass(frozen=True)
class Manner:
    """How `wrk` asks: over how many connections, with which fields besides the ordinary ones, by which script.

    After `timeout` seconds without a response a request has failed. What fails is a fault unless it is `crowded`, where
    it is counted.
    """

    connections: int = 64
    fields: tuple[str, ...] = ()
    script: str = ""
    timeout: int = 2
    crowded: bool = False


FAST = Manner()
"""The same request again and again, as fast as it is answered."""

KNOWN = Manner(fields=("Authorization: Basic YWRhOnBhc3N3b3Jk",))
"""The same request of somebody who has shown a password before."""

CLOSING = Manner(fields=("Connection: close",))
"""A new connection for each request."""

PACED = Manner(connections=128, script="function delay() return 10 end")
"""10 ms between a response and the next request of a connection."""

VARIED = Manner(script=_VISITS)
"""Requests of 10,000 visitors, each with a target and a cookie of its own, for responses that differ as well."""


@dataclass(frozen=True)
class Load:
    """What `wrk` did: requests completed, requests per second, the 99th percentile of the latency in seconds.

    `refused` of the requests were answered by another status than 2xx and 3xx, `failed` were not answered at all.
    """

    requests: int
    rate: float
    p99: float
    refused: int = 0
    failed: int = 0


@dataclass(frozen=True)
class Bodies:
    """What `bulk.py` moved: exchanges completed, bytes of bodies, seconds that it took."""

    exchanges: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Traffic:
    """Connections at once, and the bytes of the bodies of each response and each request on them."""

    streams: int
    download: int = 0
    upload: int = 0


def wrk_missing() -> str:
    """Return how to install wrk, empty when it is here."""
    return "" if shutil.which("wrk") else "apt-get install wrk"


def wrk(running: Running, seconds: float, manner: Manner) -> Load:
    """Load a proxy with small requests, spread over the routes of its scene; raises `Fault` when any failed."""
    scene = running.scene
    command = ["wrk", "-t1", f"-c{manner.connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    command += ["--timeout", f"{manner.timeout}s"]
    for field in (f"Host: {HOST}", *_FIELDS, *manner.fields):
        command += ["-H", field]
    script = (_SPREAD.format(routes=scene.routes, host=HOST) if scene.routes > 1 else "") + manner.script
    if script:
        path = running.stage.directory / "wrk.lua"
        path.write_text(script)
        command += ["-s", str(path)]
    scheme = "https" if scene.protocol == "https" else "http"
    command.append(f"{scheme}://127.0.0.1:{running.port}/")
    return parse(output(pinned(running.stage.cores.load, command), seconds + 20), crowded=manner.crowded)


def parse(text: str, *, crowded: bool = False) -> Load:
    """Return what the report of `wrk --latency` says; raises `Fault` when it tells of failed requests.

    When it is `crowded`, they are counted.
    """
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    broken = re.search(r"Socket errors: (.*)", text)
    if not crowded and (fault := broken or refused):
        raise Fault(fault[0])
    done = re.search(r"(\d+) requests in ", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text)
    if done is None or rate is None or late is None or done[1] == "0":
        raise Fault(f"wrk completed nothing: {text.strip()[-200:]}")
    return Load(
        requests=int(done[1]),
        rate=float(rate[1]),
        p99=float(late[1]) * _UNITS[late[2]],
        refused=int(refused[1]) if refused else 0,
        failed=sum(map(int, re.findall(r"\d+", broken[1]))) if broken else 0,
    )


def h2load(running: Running, seconds: float, connections: int, streams: int) -> Load:
    """Load a proxy with small requests over HTTP/2, which are calls of gRPC where its scene has them.

    Raises `Fault` when any failed. `p99` is the longest time that a request took: `h2load` tells no percentiles.
    """
    if shutil.which("h2load") is None:
        raise Fault("apt-get install nghttp2-client")
    path = "/"
    fields: tuple[str, ...] = _FIELDS
    command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{max(1, round(seconds))}"]
    if running.scene.grpc:
        message = running.stage.directory / "message"
        message.write_bytes(_MESSAGE)
        command.append(f"--data={message}")
        path, fields = CALL, _CALL
    for field in (f":authority: {HOST}", *fields):
        command += ["-H", field]
    command.append(f"https://127.0.0.1:{running.port}{path}")
    said = output(pinned(running.stage.cores.load, command), seconds + 20)
    done = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed", said)
    rate = re.search(r", ([\d.]+) req/s", said)
    late = re.search(r"time for request:\s+\S+\s+([\d.]+)(us|ms|s|m)\b", said)
    if done is None or rate is None or late is None or done[2] == "0" or done[3] != "0" or "protocol: h2\n" not in said:
        raise Fault(f"h2load met failures, or completed nothing: {said.strip()[-200:]}")
    return Load(int(done[2]), float(rate[1]), float(late[1]) * _UNITS[late[2]])


def bodies(running: Running, seconds: float, traffic: Traffic) -> Bodies:
    """Move bodies through a proxy."""
    command = [sys.executable, str(BULK), "drive", f"--port={running.port}", f"--host={HOST}", f"--seconds={seconds}"]
    command += [f"--{key}={value}" for key, value in vars(traffic).items()]
    text = output(pinned(running.stage.cores.load, command), seconds + 20)
    return Bodies(**json.loads(text))


def pings(running: Running, seconds: float) -> tuple[list[float], list[float], list[float]]:
    """Return how many seconds exchanges of 64 bytes took, each sorted.

    They went through a proxy, to an endpoint on another core, and to the one that the proxy has.
    """
    ports = (running.port, running.stage.across_port, running.stage.bulk_port)
    command = [sys.executable, str(BULK), "ping", f"--seconds={seconds}", *map(str, ports)]
    proxied, across, beside = json.loads(output(pinned(running.stage.cores.load, command), seconds + 20))
    return proxied, across, beside


def answer(scene: Scene, port: int, timeout: float) -> bytes:
    """Return the first bytes that a proxy answers to one request of `scene`; raises OSError when it does not."""
    with _connected(scene, port, timeout) as sock:
        sock.sendall(_request(scene))
        return sock.recv(4096)


@contextmanager
def held(scene: Scene, port: int, number: int) -> Iterator[None]:
    """Hold `number` connections open, each of which has had one request answered."""
    request = _request(scene)
    with ExitStack() as stack:
        for _ in range(number):
            sock = stack.enter_context(_connected(scene, port, 5))
            sock.sendall(request)
            if not sock.recv(4096).startswith(b"HTTP/1.1 200"):
                raise Fault("a connection got no response")
        yield


def handshakes(running: Running, seconds: float, *, resumed: bool) -> int:
    """Return how many TLS clients came one after the other, each with a handshake and a request in so many seconds.

    With `resumed` all but the first go on with a session. They name no host, so that no endpoint takes part.
    """
    command = ["openssl", "s_time", "-connect", f"127.0.0.1:{running.port}", "-time", str(max(1, round(seconds)))]
    command += ["-reuse" if resumed else "-new", "-www", "/"]
    said = output(pinned(running.stage.cores.load, command), seconds + 30)
    found = re.search(r"(\d+) connections in \d+ real seconds", said)
    if found is None or found[1] == "0" or (resumed and said.count("r") < int(found[1])):
        raise Fault(f"openssl s_time made no connections, or resumed no session: {said.strip()[-200:]}")
    return int(found[1])


def _request(scene: Scene) -> bytes:
    host, paths = next(scene.hosts())
    lines = [f"GET {paths[0]} HTTP/1.1", f"Host: {host}", *_FIELDS]
    return "\r\n".join([*lines, "", ""]).encode()


def _connected(scene: Scene, port: int, timeout: float) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout)
    if scene.protocol != "https":
        return sock
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=HOST)
