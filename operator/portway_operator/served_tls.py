"""A TLS context whose certificate, and whose idea of whom to trust, can be replaced while it serves."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from pathlib import Path
from typing import Final

from portway_operator.authority import Pair

__all__ = ["CertificateFiles", "ServedTls"]

_log = logging.getLogger(__name__)

_LOOK: Final = 10.0  # Seconds between two looks at the files; a kubelet takes a minute to bring them anyway.


class ServedTls:
    """`front` is for the listening socket; every handshake gets what `serve` was last told. TLS 1.3 alone.

    `verify_clients`: a client must show a certificate of an authority that `serve` named.
    """

    def __init__(self, *, verify_clients: bool = False) -> None:
        self._verify = ssl.CERT_REQUIRED if verify_clients else ssl.CERT_NONE
        self._current: ssl.SSLContext | None = None
        self.front = self._context()
        self.front.sni_callback = self._choose

    def serve(self, pair: Pair, clients: bytes = b"") -> None:
        """Serve `pair` from the next handshake on, to clients of the authorities `clients` (PEM).

        Raises `OSError` (an `ssl.SSLError`) or `ValueError` when they do not load; then all stays as it is.
        """
        context = self._context()
        fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(pair.certificate + b"\n" + pair.key)
            # OpenSSL reads files alone, and a key must never be in one. Without a password it would ask the terminal.
            context.load_cert_chain(f"/proc/self/fd/{fd}", password="")
        finally:
            os.close(fd)
        if clients:
            context.load_verify_locations(cadata=clients.decode("ascii"))
        self._current = context

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = self._verify
        # A resumed session would be one of a certificate that may have been replaced since.
        context.num_tickets = 0
        return context

    def _choose(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _front: ssl.SSLContext
    ) -> int | None:
        if self._current is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        connection.context = self._current
        return None


class CertificateFiles:
    """A certificate, its key and the clients' authority in files that somebody else (cert-manager) keeps fresh."""

    def __init__(self, served: ServedTls, certificate: Path, key: Path, clients: Path | None = None) -> None:
        self._served = served
        self._certificate = certificate
        self._key = key
        self._clients = clients
        self._seen: tuple[object, ...] = ()

    def load(self) -> None:
        """Serve what the files hold. Raises `OSError` and `ValueError`."""
        self._seen = self._look()
        pair = Pair(self._certificate.read_bytes(), self._key.read_bytes())
        self._served.serve(pair, self._clients.read_bytes() if self._clients is not None else b"")

    async def run(self, pause: float = _LOOK) -> None:
        """Serve what the files hold whenever they change, for ever; what does not load changes nothing."""
        while True:
            await asyncio.sleep(pause)
            if self._look() == self._seen:
                continue
            try:
                self.load()
            except (OSError, ValueError) as error:
                _log.error("the changed certificate %s does not load, the last one stays: %s", self._certificate, error)
            else:
                _log.info("serving the changed certificate %s", self._certificate)

    def _look(self) -> tuple[object, ...]:
        return tuple(_state(path) for path in (self._certificate, self._key, self._clients) if path is not None)


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
