"""A generator and an endpoint of large bodies that cost little, so that the proxy between them is what is measured.

Bodies go out by plain `send` from memory, as an application's do (a `sendfile` would hand the proxy single pages,
which no application's bytes are); what arrives is thrown away inside the kernel (`MSG_TRUNC`). A program of its
own: `bulk.py drive ...` prints its result as JSON, `bulk.py serve PORT` serves until it is killed, and `bulk.py ping
...` says how long small exchanges take.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import time
from collections.abc import Generator
from typing import TypeAlias, TypeVar

_T = TypeVar("_T")
Waits: TypeAlias = Generator[None, None, _T]
"""Work that yields where it would block, and ends with a value."""

_CHUNK = 4 << 20
_HEAD = 65536
_PATIENCE = 0.2
_bytes = memoryview(bytearray(os.urandom(_CHUNK)))


class Bad(Exception):
    """The other side did what this program does not expect."""


def length_of(head: bytes) -> int:
    """Return the Content-Length that a head declares, 0 without one; raises `Bad` for a chunked body."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
        if name.lower() == b"transfer-encoding":
            raise Bad("a chunked body")
    return 0


class Connection:
    """A connection that carries one message after the other; `moved` counts the bytes of bodies, both ways."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.sock = sock
        self.events = selectors.EVENT_READ
        self.moved = 0

    def receive(self) -> Waits[bytes]:
        """Read one message, throw its body away and return its head."""
        head, _, rest = (yield from self._head()).partition(b"\r\n\r\n")
        left = length_of(head) - len(rest)
        self.moved += len(rest)
        while left:
            try:
                count = self.sock.recv_into(_bytes, min(left, _CHUNK), socket.MSG_TRUNC)
            except BlockingIOError:
                yield
                continue
            if not count:
                raise Bad("the connection ended in the middle")
            left -= count
            self.moved += count
            if left:
                # So that one fast connection does not keep the others waiting.
                yield
        return head

    def send(self, head: str, body: int) -> Waits[None]:
        """Write a message with a body of `body` bytes."""
        self.sock.sendall(head.encode())
        self.events = selectors.EVENT_WRITE
        left = body
        while left:
            try:
                count = self.sock.send(_bytes[:left])
            except BlockingIOError:
                yield
                continue
            left -= count
            self.moved += count
            if left:
                yield
        self.events = selectors.EVENT_READ

    def _head(self) -> Waits[bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                part = self.sock.recv(_HEAD)
            except BlockingIOError:
                yield
                continue
            if not part:
                raise Bad("the connection ended")
            data += part
        return data


class Client:
    """A connection that repeats one request; `exchanges` counts how often it was answered."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.connection = Connection(socket.create_connection(("127.0.0.1", options.port)))
        self.exchanges = 0
        self.work = self._run(options.host, options.download, options.upload)

    def _run(self, host: str, download: int, upload: int) -> Waits[None]:
        start = f"POST /{download}" if upload else f"GET /{download}"
        length = f"Content-Length: {upload}\r\n" if upload else ""
        request = f"{start} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\n{length}\r\n"
        while True:
            yield from self.connection.send(request, upload)
            head = yield from self.connection.receive()
            if b" 200 " not in head[:16]:
                raise Bad(head.split(b"\r\n", 1)[0].decode(errors="replace"))
            self.exchanges += 1


def drive(options: argparse.Namespace) -> None:
    """Repeat one request on every stream until the time is over, then print what moved."""
    selector = selectors.DefaultSelector()
    clients = [Client(options) for _ in range(options.streams)]
    for client in clients:
        next(client.work)
        selector.register(client.connection.sock, client.connection.events, client)
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < options.seconds:
        for key, events in selector.select(_PATIENCE):
            client = key.data
            next(client.work)
            if client.connection.events != events:
                selector.modify(key.fileobj, client.connection.events, client)
    exchanges = sum(client.exchanges for client in clients)
    moved = sum(client.connection.moved for client in clients)
    print(json.dumps({"exchanges": exchanges, "bytes": moved, "seconds": spent}))


def ping(options: argparse.Namespace) -> None:
    """Exchange 64 bytes for an answer on a connection to each port by turns, and print how long each took there."""
    start, end_of_head = b"GET /0 HTTP/1.1\r\nHost: bench.example\r\nX-Filler: ", b"\r\n\r\n"
    request = start.ljust(64 - len(end_of_head), b"x") + end_of_head
    sockets = [socket.create_connection(("127.0.0.1", port)) for port in options.ports]
    for sock in sockets:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times: list[list[float]] = [[] for _ in sockets]
    end = time.perf_counter() + options.seconds
    while (began := time.perf_counter()) < end:
        for sock, taken in zip(sockets, times, strict=True):
            began = time.perf_counter()
            sock.sendall(request)
            if not sock.recv(_HEAD):
                raise Bad("the connection ended")
            taken.append(time.perf_counter() - began)
    print(json.dumps([sorted(taken) for taken in times]))


def serve(options: argparse.Namespace) -> None:
    """Answer every request for `/N` with a body of N bytes, whatever body it has itself, until killed."""
    selector = selectors.DefaultSelector()
    listening = socket.create_server(("127.0.0.1", options.port), backlog=1024)
    selector.register(listening, selectors.EVENT_READ, None)
    while True:
        for key, events in selector.select():
            if key.data is None:
                connection = Connection(listening.accept()[0])
                selector.register(connection.sock, selectors.EVENT_READ, (connection, _answers(connection)))
                continue
            connection, work = key.data
            try:
                next(work)
            except (Bad, OSError):
                selector.unregister(connection.sock)
                connection.sock.close()
                continue
            if connection.events != events:
                selector.modify(connection.sock, connection.events, key.data)


def _answers(connection: Connection) -> Waits[None]:
    while True:
        request = yield from connection.receive()
        size = int(request.split(b" ", 2)[1].removeprefix(b"/") or 0)
        yield from connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n", size)


def main() -> None:
    """Parse the arguments and do what they say."""
    parser = argparse.ArgumentParser(description=__doc__)
    roles = parser.add_subparsers(required=True)
    driving = roles.add_parser("drive")
    driving.add_argument("--port", type=int, required=True)
    driving.add_argument("--host", default="bench.example")
    driving.add_argument("--streams", type=int, default=1)
    driving.add_argument("--seconds", type=float, default=3.0)
    driving.add_argument("--download", type=int, default=0, help="bytes of a response body")
    driving.add_argument("--upload", type=int, default=0, help="bytes of a request body")
    driving.set_defaults(role=drive)
    pinging = roles.add_parser("ping")
    pinging.add_argument("ports", type=int, nargs="+")
    pinging.add_argument("--seconds", type=float, default=3.0)
    pinging.set_defaults(role=ping)
    serving = roles.add_parser("serve")
    serving.add_argument("port", type=int)
    serving.set_defaults(role=serve)
    options = parser.parse_args()
    options.role(options)


if __name__ == "__main__":
    main()
