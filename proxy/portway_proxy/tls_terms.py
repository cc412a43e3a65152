"""How TLS is spoken and asked for, as a part of the contract (`snapshot.Snapshot.tls`): values and no behaviour."""

from __future__ import annotations

import msgspec

__all__ = ["ACME", "TlsTerms"]

ACME = "/.well-known/acme-challenge"
"""Where an authority looks for the answer to its challenge (RFC 8555, 8.3), before there is a certificate."""


class TlsTerms(msgspec.Struct, frozen=True):
    """What holds for all hosts; names of protocols, ciphers and curves are OpenSSL's.

    `protocols` are of `TLSv1.2` and `TLSv1.3`. `ciphers` are those of TLS 1.2, `curves` those of key exchanges, each
    parted by colons; empty leaves OpenSSL's choice. `tickets`: clients may resume sessions at any worker, for
    `session_timeout` seconds; 0 leaves OpenSSL's two hours. `reject_unknown`: a client that asks for a name that is no
    host's is refused. `hsts` is the Strict-Transport-Security of hosts that have a certificate; empty is none.
    Requests without TLS are sent to https by the status `redirect`, but for paths below `plain_paths`.
    """

    protocols: tuple[str, ...] = ("TLSv1.2", "TLSv1.3")
    ciphers: str = ""
    curves: str = ""
    tickets: bool = True
    session_timeout: int = 0
    reject_unknown: bool = False
    hsts: str = "max-age=31536000; includeSubDomains"  # ingress-nginx's hsts, hsts-max-age, hsts-include-subdomains.
    redirect: int = 308
    plain_paths: tuple[str, ...] = (ACME,)
