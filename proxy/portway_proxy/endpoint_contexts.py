"""The contexts of TLS connections to endpoints: one for each set of terms, made when it is first needed."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Final, NamedTuple, TypeAlias

from portway_proxy.channel import store
from portway_proxy.endpoint_tls import EndpointTls, Keyring
from portway_proxy.errors import EndpointUnreadable
from portway_proxy.openssl import openssl

__all__ = ["RESUMED", "EndpointContext", "EndpointContexts", "Kept", "Manner"]

_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_NO_KEYS: Final = Keyring("")

Manner: TypeAlias = tuple[EndpointTls, tuple[str, ...]]
"""Terms, and the protocols that are offered by ALPN."""

RESUMED: Final[ContextVar[Kept | None]] = ContextVar("RESUMED", default=None)
"""The session that a connection made in this task goes on with: event loops have no argument for it."""


class Kept(NamedTuple):
    """The session of a connection, and the context that it was made with, which alone can go on with it."""

    context: ssl.SSLContext
    session: ssl.SSLSession

    @classmethod
    def of(cls, connection: ssl.SSLObject) -> Kept | None:
        """Return the session as it is now, if there is one: of TLS 1.3 it comes with the first answer."""
        return None if connection.session is None else cls(connection.context, connection.session)


class EndpointContext(ssl.SSLContext):
    """What makes connections, with the session of `RESUMED` if that is its own."""

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as it is in ssl
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Return a connection that goes on with a session, where there is one."""
        kept = RESUMED.get()
        if session is None and kept is not None and kept.context is self:
            session = kept.session
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


class EndpointContexts:
    """The contexts of a worker. One is kept while a snapshot has the keyring of its terms."""

    __slots__ = ("_keyrings", "_made")

    def __init__(self) -> None:
        self._keyrings: dict[str, Keyring] = {}
        self._made: dict[Manner, EndpointContext] = {}

    def update(self, keyrings: Iterable[Keyring]) -> None:
        """Take the keyrings of a snapshot: equal names have equal content."""
        self._keyrings = {keyring.name: keyring for keyring in keyrings}
        known = {"", *self._keyrings}
        self._made = {manner: made for manner, made in self._made.items() if manner[0].keyring in known}

    def context(self, manner: Manner) -> EndpointContext:
        """Return what connects in this manner; raises `EndpointUnreadable` when OpenSSL does not take the terms."""
        made = self._made.get(manner)
        if made is None:
            terms, protocols = manner
            keyring = self._keyrings.get(terms.keyring) if terms.keyring else _NO_KEYS
            if keyring is None:
                raise EndpointUnreadable(f"the keyring {terms.keyring} is gone")
            try:
                made = _make(terms, keyring)
            except (OSError, ValueError) as error:
                raise EndpointUnreadable(f"TLS by {terms.keyring or 'the terms'} does not load: {error}") from None
            if protocols:
                made.set_alpn_protocols(list(protocols))
            self._made[manner] = made
        return made


def _make(terms: EndpointTls, keyring: Keyring) -> EndpointContext:
    """Return a context; raises `ValueError` and `OSError`, which `ssl.SSLError` is one of."""
    context = EndpointContext(ssl.PROTOCOL_TLS_CLIENT)
    # As ingress-nginx's default: encrypted, not verified; an endpoint's certificate seldom names a pod's address.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if terms.protocols:
        versions = sorted(_VERSIONS[name] for name in terms.protocols)
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
    if terms.ciphers:
        context.set_ciphers(terms.ciphers)
    if keyring.chain:
        # Without a password of ours OpenSSL would ask for one at the terminal and wait.
        _from_memory(keyring.chain + b"\n" + keyring.key, lambda path: context.load_cert_chain(path, password=""))
    if terms.verify:
        _verify(context, terms, keyring)
    return context


def _verify(context: EndpointContext, terms: EndpointTls, keyring: Keyring) -> None:
    context.verify_mode = ssl.CERT_REQUIRED
    if keyring.ca:
        _from_memory(b"\n".join((keyring.ca, keyring.crl)), context.load_verify_locations)
    else:
        context.load_default_certs()
    if keyring.crl:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    reached = openssl()
    if reached is None:
        # ssl knows no depth, and compares no name that it does not tell: both go without.
        raise ValueError("OpenSSL cannot be reached, and so endpoints not be verified")
    reached.expect(context, terms.name, terms.depth)


def _from_memory(pem: bytes, load: Callable[[str], None]) -> None:
    """Hand OpenSSL what it only reads from a file, without one on disk."""
    fd = store(pem)
    try:
        load(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
