"""How TLS is spoken and asked for, as a part of the contract (`snapshot.Snapshot.tls`): values and no behaviour."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["ACME", "ClientAuthority", "ClientCertificate", "TlsTerms", "Verification"]

ACME = "/.well-known/acme-challenge"
"""Where an authority looks for the answer to its challenge (RFC 8555, 8.3), before there is a certificate."""


class TlsTerms(msgspec.Struct, frozen=True):
    """What holds for all hosts; names of protocols, ciphers and curves are OpenSSL's.

    `protocols` are of `TLSv1.2` and `TLSv1.3`. `ciphers` are those of TLS 1.2, `curves` those of key exchanges, each
    parted by colons; empty leaves OpenSSL's choice. `tickets`: clients may resume sessions at any worker, for
    `session_timeout` seconds; 0 leaves OpenSSL's two hours. `reject_unknown`: a client that asks for a name that is no
    host's is refused. `hsts` is the Strict-Transport-Security of hosts that have a certificate; empty is none. `http2`
    is offered, and understood without TLS. Requests without TLS are sent to https by the status `redirect`, but for
    paths below `plain_paths`. `host_ciphers` are hosts (as in `Host`, sorted) with ciphers of their own.
    """

    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: str = ""
    curves: str = ""
    tickets: bool = True
    session_timeout: int = 0
    reject_unknown: bool = False
    hsts: str = "max-age=31536000; includeSubDomains"  # ingress-nginx's hsts, hsts-max-age, hsts-include-subdomains.
    redirect: int = 308
    http2: bool = True
    plain_paths: tuple[str, ...] = (ACME,)
    host_ciphers: tuple[tuple[str, str], ...] = ()


class Verification(StrEnum):
    """Who is let in: who shows a good certificate; who shows that or none; who shows that, none, or a stranger's."""

    ON = "on"
    OPTIONAL = "optional"
    OPTIONAL_NO_CA = "optional_no_ca"


class ClientAuthority(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whose certificates clients of `hosts` (as in `Host`, sorted) are asked for when they come.

    `name` is another one for any other content but hosts. `ca` are certificates, `crl` lists of revoked ones (PEM; with
    them, everybody in a chain has to have one). `depth` is how many certificates may stand between a client's and `ca`.
    """

    name: str
    hosts: tuple[str, ...]
    ca: bytes
    crl: bytes = b""
    depth: int = 1


class ClientCertificate(msgspec.Struct, frozen=True):
    """Clients have to come by the authority of that name.

    `subject` is a regular expression that the name in the certificate has to fit somewhere (`CN=alice,O=Shop`). Who is
    not let in is sent to `error_page` by a 302, where there is one. The endpoint gets the whole certificate where
    that is to be `forwarded`.
    """

    authority: str
    verification: Verification = Verification.ON
    subject: str = ""
    error_page: str = ""
    forwarded: bool = False
