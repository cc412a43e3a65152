"""Certificates by name: which ones a TLS client gets, and the contexts that serve them.

A context is made when its name is first asked for (about 1 ms and 20 KiB) and kept while its certificates are
unchanged. Keys reach OpenSSL through a memfd, never through a file on disk.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final, Self, TypeVar

from portway_proxy.channel import store
from portway_proxy.openssl import openssl
from portway_proxy.routing import RouteTable
from portway_proxy.snapshot import Certificate, ClientAuthority, Snapshot
from portway_proxy.tls_names import TlsNames
from portway_proxy.tls_terms import TlsTerms

__all__ = ["CertificateStore", "Context", "self_signed", "shows_own"]

K = TypeVar("K")

_log = logging.getLogger(__name__)

_PROTOCOLS: Final = {False: ["http/1.1"], True: ["h2", "http/1.1"]}
_VERSIONS: Final = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}
_NOBODY: Final = RouteTable(None)


class Context(ssl.SSLContext):
    """What serves certificates; `own` are those of the name that the client asks for, not the default ones.

    `stapled` are those with an OCSP response, by where OpenSSL has them.
    """

    own = False
    stapled: Mapping[int | None, Certificate]
    _lives: object  # What OpenSSL calls.

    @classmethod
    def new(cls) -> Self:
        """Return one without a certificate."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.stapled = {}
        return context

    def staple(self, certificate: Certificate) -> None:
        """Hand the OCSP response of the certificate that was added last to clients that ask for it."""
        reached = openssl()
        if reached is None:
            return
        if not self.stapled:
            self._lives = reached.staple(self, self._response)
        self.stapled = {**self.stapled, reached.certificate(self): certificate}

    def _response(self, place: int | None) -> bytes:
        certificate = self.stapled.get(place)
        return b"" if certificate is None or certificate.staple_until <= time.time() else certificate.staple

    def offer(self, terms: TlsTerms) -> None:
        """Let clients choose what is spoken (ALPN)."""
        self.set_alpn_protocols(_PROTOCOLS[terms.http2])


class CertificateStore:
    """The certificates of a worker.

    `context` is for connections that come in: in the handshake it hands over to the context of the certificates for
    the name that the client asks for (SNI), or serves the built-in certificate itself. How TLS is spoken, and which
    sessions go on, is its alone to say: OpenSSL takes certificates, ciphers and ALPN from the other, nothing else.
    """

    def __init__(self, chain: bytes, key: bytes, ticket_key: bytes = b"") -> None:
        """Take the built-in certificate (PEM), which serves until a snapshot names another as the default.

        Session tickets are made with `ticket_key`, without one with a key that nobody else has. Raises `ssl.SSLError`
        when the certificate does not load.
        """
        self._built_in = Certificate("", (), chain, key, 0)
        self._ticket_key = ticket_key
        self._terms = TlsTerms()
        self._names = TlsNames(Snapshot(), _NOBODY)
        self._contexts: dict[tuple[bool, tuple[str, ...], str], tuple[tuple[Certificate, ...], Context | None]] = {}
        self._asking: dict[tuple[str, bool, tuple[str, ...], str], tuple[tuple[Certificate, ...], Context | None]] = {}
        self._ciphered: dict[str, Context] = {}
        self.context = self._initial()

    def update(self, snapshot: Snapshot, table: RouteTable = _NOBODY) -> None:
        """Serve the certificates of a snapshot from the next handshake on; `table` has its hosts.

        Connections that exist keep what they have.
        """
        self._names = names = TlsNames(snapshot, table)
        self._contexts = _unchanged(self._contexts, names.known)
        # An authority that changes has another name; a list of revoked certificates may be megabytes.
        named = {authority.name for authority in snapshot.authorities}
        self._asking = {key: kept for key, kept in _unchanged(self._asking, names.known).items() if key[0] in named}
        if names.terms != self._terms:
            self._terms = names.terms
            self._asking.clear()
            self._contexts.clear()
            self._ciphered.clear()
            self.context = self._initial()

    def rekey(self, ticket_key: bytes) -> None:
        """Make session tickets with another key from now on."""
        self._ticket_key = ticket_key
        for context in (self.context, *self._ciphered.values()):
            self._share_sessions(context)

    def welcome(self, name: str) -> tuple[Context, str]:
        """Return the context for a client that asks for `name` (lower-case, without a dot at its end, or empty).

        Beside it stands the authority by which the client is asked who it is, or nothing: then nobody asks.
        """
        authority, ciphers = self._names.authority(name), self._names.ciphers(name)
        if authority is None:
            return self._speaking(ciphers), ""
        own = self._names.own(name)
        certificates = own or self._names.default
        key = authority.name, bool(own), tuple(certificate.name for certificate in certificates), ciphers
        if key not in self._asking:
            self._asking[key] = certificates, self._ask(authority, certificates, ciphers, own=bool(own))
        context = self._asking[key][1]
        # Without one nobody is asked, and so nobody is let in.
        return (self.context, "") if context is None else (context, authority.name)

    def _speaking(self, ciphers: str) -> Context:
        """Return the context for connections that come in and speak with these ciphers; those of all where empty."""
        if not ciphers:
            return self.context
        if ciphers not in self._ciphered:
            self._ciphered[ciphers] = self._initial(ciphers)
        return self._ciphered[ciphers]

    def find(self, name: str | None) -> tuple[Certificate, ...]:
        """Return the certificates for the name (case and a trailing dot do not count); none is the built-in one.

        An exact host goes before a wildcard of one label, and that before the default.
        """
        return self._names.own(name) or self._names.default

    def context_for(self, name: str | None, ciphers: str = "") -> Context:
        """Return the context that serves `name`; that of the default when none of the name's certificates loads.

        `ciphers` are the host's own, where it has any.
        """
        own = self._names.own(name)
        context = self._load(own, ciphers, own=True) if own else None
        if context is None and self._names.default:
            context = self._load(self._names.default, ciphers, own=False)
        return context or self._speaking(ciphers)

    def _load(self, certificates: tuple[Certificate, ...], ciphers: str, *, own: bool) -> Context | None:
        key = own, tuple(certificate.name for certificate in certificates), ciphers
        kept = self._contexts.get(key)
        if kept is None:
            # Also when none loads, or every handshake would try again.
            kept = self._contexts[key] = certificates, _context(certificates)
            if kept[1] is not None:
                kept[1].own = own
                kept[1].offer(self._terms)
                # OpenSSL takes the ciphers from the context that is chosen.
                self._cipher(kept[1], ciphers)
        return kept[1]

    def _ask(
        self, authority: ClientAuthority, certificates: tuple[Certificate, ...], ciphers: str, *, own: bool
    ) -> Context | None:
        """Return a context that asks clients for certificates.

        It is one of its own from the beginning, and none of its sessions goes on elsewhere: OpenSSL takes neither the
        question nor the authorities from a context that is chosen in the handshake, and resumes without asking.
        """
        try:
            context = _context(certificates)
            if context is None:
                context, own = Context.new(), False
                _load(context, self._built_in)
            context.own = own
            self._speak(context, ciphers)
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
            _ask_for_certificates(context, authority)
        except (ssl.SSLError, ValueError, OSError) as error:
            _log.error("the authority %s does not load (%s); nobody is let in by it", authority.name, error)
            return None
        return context

    def _choose(
        self, ciphers: str, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _initial: ssl.SSLContext
    ) -> ssl.AlertDescription | None:
        if self._terms.reject_unknown and not self._names.knows(name):
            return ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
        connection.context = self.context_for(name, ciphers)
        return None

    def _initial(self, ciphers: str = "") -> Context:
        context = Context.new()
        _load(context, self._built_in)
        # The first word on what a name gets is said before the certificate is chosen.
        context.sni_callback = partial(self._choose, ciphers)
        self._speak(context, ciphers)
        self._share_sessions(context)
        return context

    def _speak(self, context: Context, ciphers: str) -> None:
        """Speak TLS as it was asked for; what OpenSSL does not know of it is left as it is."""
        terms = self._terms
        versions = sorted(_VERSIONS[name] for name in terms.protocols) or [ssl.TLSVersion.TLSv1_2]
        context.minimum_version, context.maximum_version = versions[0], versions[-1]
        context.offer(terms)
        self._cipher(context, ciphers)
        reached = openssl()
        if terms.curves and (reached is None or not reached.set_curves(context, terms.curves)):
            _log.error("OpenSSL does not know the curves %s", terms.curves)
        if reached is not None and terms.session_timeout:
            reached.set_session_timeout(context, terms.session_timeout)
        if not terms.tickets:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0

    def _cipher(self, context: Context, ciphers: str) -> None:
        """Speak with these ciphers, or with those of all where there are none."""
        ciphers = ciphers or self._terms.ciphers
        try:
            context.set_ciphers(ciphers) if ciphers else None
        except ssl.SSLError:
            _log.error("OpenSSL knows none of the ciphers %s", ciphers)

    def _share_sessions(self, context: Context) -> None:
        reached = openssl() if self._ticket_key else None
        if reached is not None:
            reached.set_ticket_key(context, self._ticket_key)


def shows_own(transport: asyncio.BaseTransport) -> bool:
    """Return whether the client of a TLS connection was shown a certificate for the very name that it asked for."""
    context = transport.get_extra_info("ssl_object").context
    return isinstance(context, Context) and context.own


def self_signed() -> tuple[bytes, bytes]:
    """Return the chain and key (PEM) of a new certificate that nobody trusts, for names that have none.

    For the supervisor: it loads a library that costs a worker 15 MB.
    """
    import datetime  # noqa: PLC0415 - every worker imports this module, and needs none of it

    from cryptography import x509  # noqa: PLC0415 - 15 MB, which no worker needs
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - 15 MB, which no worker needs
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - 15 MB, which no worker needs

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Portway default certificate")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("portway.invalid")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def _unchanged(
    contexts: dict[K, tuple[tuple[Certificate, ...], Context | None]], known: Mapping[str, Certificate]
) -> dict[K, tuple[tuple[Certificate, ...], Context | None]]:
    """Return those contexts whose certificates are all still known as they are served."""
    return {
        key: (served, context)
        for key, (served, context) in contexts.items()
        if all(_same(one, known.get(one.name)) for one in served)
    }


def _same(served: Certificate, now: Certificate | None) -> bool:
    return now is not None and (now.chain, now.key, now.staple) == (served.chain, served.key, served.staple)


def _context(certificates: Iterable[Certificate]) -> Context | None:
    """Return a context for those of the certificates that load, or None when there is none.

    They are of one host: OpenSSL takes the one whose key the client can use, and keeps one for each kind of key.
    """
    context = Context.new()
    loaded = False
    for certificate in reversed(tuple(certificates)):
        try:
            _load(context, certificate)
            loaded = True
            if certificate.staple:
                context.staple(certificate)
        except (ssl.SSLError, ValueError, OSError) as error:
            _log.error(
                "certificate %s does not load (%s); its names get the default certificate", certificate.name, error
            )
    return context if loaded else None


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Add a certificate; raises `ssl.SSLError`, `ValueError` and `OSError`."""
    fd = store(certificate.chain + b"\n" + certificate.key)
    try:
        # Without a password of ours OpenSSL would ask for one at the terminal and wait.
        context.load_cert_chain(f"/proc/self/fd/{fd}", password="")
    finally:
        os.close(fd)


def _ask_for_certificates(context: Context, authority: ClientAuthority) -> None:
    """Ask clients who they are; raises `ssl.SSLError` and `OSError`."""
    fd = store(b"\n".join((authority.ca, authority.crl)))
    path = f"/proc/self/fd/{fd}"
    try:
        context.load_verify_locations(path)
        if authority.crl:
            context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
        context.verify_mode = ssl.CERT_OPTIONAL
        if (reached := openssl()) is not None:
            reached.ask_for_certificates(context, path, authority.depth)
    finally:
        os.close(fd)
