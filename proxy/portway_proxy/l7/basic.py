"""Basic authentication (RFC 7617), with the answers of ingress-nginx."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from portway_proxy.errors import AuthBusy
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import PENDING
from portway_proxy.l7.lookup import field
from portway_proxy.l7.passage import without

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.passage import Passage, Step
    from portway_proxy.passwords import Verifier

__all__ = ["AskPassword"]

_AUTHORIZATION = b"authorization"


class AskPassword:
    """The step that lets through who knows a user's password; the endpoint does not get to see it.

    What was verified before passes at once. The first time a thread hashes it, and the exchange goes on later. Who
    does not know one gets 401, or has `otherwise` to pass.
    """

    __slots__ = ("_challenge", "_otherwise", "_verifier")

    def __init__(self, realm: str, verifier: Verifier, otherwise: Step | None = None) -> None:
        self._otherwise = otherwise
        self._challenge = b'WWW-Authenticate: Basic realm="%b"\r\n' % realm.encode()
        self._verifier = verifier

    def __call__(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request may go on now."""
        value = field(exchange.head.lines, _AUTHORIZATION)
        if value is None:
            return self._refuse(exchange, passage)
        verifier = self._verifier
        digest = verifier.digest(value)
        passes = verifier.recall(digest)
        if passes:
            without(exchange.head, _AUTHORIZATION)
            return True
        if passes is not None:
            return self._refuse(exchange, passage)
        hashing = exchange.client.http.hashing
        if not hashing.ask(verifier, value, digest, partial(self._decide, exchange, passage)):
            raise AuthBusy
        return False

    def _decide(self, exchange: Exchange, passage: Passage, passes: bool) -> None:  # noqa: FBT001 - a verdict, as the thread brings it
        if exchange.state is not PENDING:
            return  # Its client has gone.
        if passes:
            without(exchange.head, _AUTHORIZATION)
            flow.go_on(exchange)
        elif self._refuse(exchange, passage):
            flow.go_on(exchange)

    def _refuse(self, exchange: Exchange, passage: Passage) -> bool:
        """Return whether the request may go on now all the same."""
        if self._otherwise is not None:
            return self._otherwise(exchange, passage)
        exchange.reason = "unauthorized"
        flow.answer(exchange, 401, self._challenge, keeps=True)
        return False
