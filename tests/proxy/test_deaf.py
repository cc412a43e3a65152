from __future__ import annotations

import socket

import pytest

from portway_proxy.l4.deaf import deafen, hear


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=16)


def attempt(to: socket.socket) -> socket.socket:
    client = socket.socket()
    client.settimeout(0)
    client.connect_ex(to.getsockname())
    return client


def test_who_has_connected_can_be_accepted_and_nobody_else_connects() -> None:
    with listening() as sock, socket.create_connection(sock.getsockname()) as early:
        deafen(sock)
        with attempt(sock):
            sock.settimeout(1)
            accepted, peer = sock.accept()
            with accepted:
                assert peer == early.getsockname()
                early.sendall(b"hello")
                assert accepted.recv(5) == b"hello"
            sock.settimeout(0)
            with pytest.raises(BlockingIOError):
                sock.accept()


def test_a_socket_that_hears_again_takes_who_tried_meanwhile() -> None:
    with listening() as sock:
        hear(sock)
        deafen(sock)
        with attempt(sock) as client:
            hear(sock)
            hear(sock)
            # The client's kernel asks again after a second.
            sock.settimeout(20)
            accepted, peer = sock.accept()
            with accepted:
                assert peer == client.getsockname()
