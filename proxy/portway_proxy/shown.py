"""What a client's certificate says, in the words that nginx has for it."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote

from portway_proxy.openssl import openssl

__all__ = ["Shown", "distinguished_name"]

# OpenSSL's short names of the attributes that it tells by their long ones (crypto/objects/objects.txt).
_SHORT: Final = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "generationQualifier": "generationQualifier",
    "givenName": "GN",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "street",
    "surname": "SN",
    "userId": "UID",
}
_QUOTED: Final = b',+"\\<>;'


class Shown:
    """The certificate of a TLS client: whether it is `there`, OpenSSL's `code` and `words` for what is wrong with it.

    `subject` is whom it is for (RFC 2253), empty without one.
    """

    __slots__ = ("_der", "_issuer", "code", "subject", "words")

    def __init__(self, connection: ssl.SSLObject) -> None:
        self._der = connection.getpeercert(binary_form=True)
        reached = openssl()
        # Where OpenSSL cannot be asked, it has ended the handshake of everybody whose certificate is not good.
        self.code, self.words = reached.verified(connection) if reached is not None and self.there else (0, "")
        said: dict[str, Any] = connection.getpeercert() or {}
        self.subject = distinguished_name(said.get("subject", ()))
        self._issuer = distinguished_name(said.get("issuer", ()))

    @property
    def there(self) -> bool:
        """Whether the client showed one."""
        return self._der is not None

    def fields(self, *, whole: bool) -> bytes:
        """Return the fields that tell an endpoint about it, each ended by CRLF; `whole` adds the certificate."""
        if self._der is None:
            return b"ssl-client-verify: NONE\r\n"
        verify = f"FAILED:{self.words}" if self.code else "SUCCESS"
        told = b"ssl-client-verify: %b\r\nssl-client-subject-dn: %b\r\nssl-client-issuer-dn: %b\r\n" % (
            verify.encode(),
            self.subject,
            self._issuer,
        )
        if not whole:
            return told
        return told + b"ssl-client-cert: %b\r\n" % quote(ssl.DER_cert_to_PEM_cert(self._der), safe="").encode()


def distinguished_name(parts: Iterable[Iterable[tuple[str, str]]]) -> bytes:
    """Return a name as `ssl` tells it in the form of RFC 2253: the last part first, `CN=alice,O=Shop`."""
    names = [
        b"+".join(_SHORT.get(kind, kind).encode() + b"=" + _escaped(value) for kind, value in part) for part in parts
    ]
    return b",".join(reversed(names))


def _escaped(text: str) -> bytes:
    out = bytearray()
    data = text.encode(errors="surrogateescape")
    for place, sign in enumerate(data):
        edge = (sign == 0x20 and place in (0, len(data) - 1)) or (sign == 0x23 and place == 0)
        if sign in _QUOTED or edge:
            out += b"\\%c" % sign
        else:
            out += b"%c" % sign if 0x20 <= sign < 0x7F else b"\\%02X" % sign
    return bytes(out)
