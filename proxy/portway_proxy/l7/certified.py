"""The step that asks a client for its certificate, with the answers of ingress-nginx."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from portway_proxy.errors import CertificateNeeded, Misdirected, WrongCertificate
from portway_proxy.l7 import flow
from portway_proxy.patterns import compile_pattern
from portway_proxy.tls_terms import Verification

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage
    from portway_proxy.shown import Shown
    from portway_proxy.tls_terms import ClientCertificate

__all__ = ["AskCertificate"]

# Nobody whom we know vouches for the certificate; everything else that is wrong with one is wrong for all (nginx's
# ngx_ssl_verify_error_optional): self-signed, self-signed in the chain, no issuer, no way to verify it, not trusted.
_STRANGER: Final = (18, 19, 20, 21, 27)


class AskCertificate:
    """Lets through whose certificate is as it should be, and tells the endpoint about it."""

    __slots__ = ("_asked", "_subject")

    def __init__(self, asked: ClientCertificate) -> None:
        self._asked = asked
        self._subject = compile_pattern(asked.subject, exact=True) if asked.subject else None

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request may go on; raises `CertificateNeeded`, `Misdirected` and `WrongCertificate`."""
        client = exchange.client
        if not client.tls:
            return self._without_tls(exchange, passage)
        if client.authority != self._asked.authority:
            raise Misdirected("the client was not asked for a certificate, or by other rules")
        shown = client.shown
        if not self._good(shown):
            return self._refuse(exchange, shown.words or "no certificate was sent")
        if self._subject is not None and self._subject.search(shown.subject) is None:
            raise WrongCertificate
        passage.fields += shown.fields(whole=self._asked.forwarded)
        return True

    def _without_tls(self, exchange: Exchange, passage: Passage) -> bool:
        """Let in who need not show anything, and authorities that look for the answer to their challenge."""
        if self._asked.verification is not Verification.ON and self._subject is None:
            passage.fields += b"ssl-client-verify: NONE\r\n"
            return True
        if (exchange.head.path + b"/").startswith(exchange.client.http.plain_paths):
            return True
        return self._refuse(exchange, "it came without TLS")

    def _good(self, shown: Shown) -> bool:
        match self._asked.verification:
            case Verification.ON:
                return shown.there and not shown.code
            case Verification.OPTIONAL:
                return not shown.code
        return not shown.code or shown.code in _STRANGER

    def _refuse(self, exchange: Exchange, why: str) -> bool:
        if not self._asked.error_page:
            raise CertificateNeeded(why)
        exchange.reason = CertificateNeeded.reason
        flow.answer(exchange, 302, b"Location: %b\r\n" % self._asked.error_page.encode(), keeps=False)
        return False
