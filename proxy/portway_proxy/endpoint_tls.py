"""How endpoints are spoken to over TLS, as parts of the snapshot."""

from __future__ import annotations

import msgspec

__all__ = ["EndpointTls", "Keyring"]


class EndpointTls(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an Ingress asks of TLS to its endpoints beyond the ordinary.

    Where it `verify`s, an endpoint has to show a certificate for `name`, with at most `depth` others between it and an
    authority of the keyring, or one of the system's where that has none. Endpoints are told `name` (SNI) where it is
    `told`. `keyring` is the name of one; `protocols` are of TLSv1.2 and TLSv1.3, `ciphers` is as OpenSSL has it;
    what is empty is left to OpenSSL.
    """

    name: str = ""
    verify: bool = False
    depth: int = 1
    told: bool = False
    keyring: str = ""
    protocols: tuple[str, ...] = ()
    ciphers: str = ""


class Keyring(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a Secret holds for connections to endpoints, in PEM.

    `name` is `namespace/secret@hash`, another one for other content. `ca` are authorities, `crl` lists of revoked
    certificates; `chain` and `key` are what endpoints are shown that ask. Any may be empty. Neither `repr` nor `str`
    shows the key.
    """

    name: str
    ca: bytes = b""
    crl: bytes = b""
    chain: bytes = b""
    key: bytes = b""

    def __repr__(self) -> str:
        """Return the name alone."""
        return f"Keyring({self.name!r})"
