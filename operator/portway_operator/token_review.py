"""Asks the API server whose token this is, and remembers the answer for less than a minute."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from portway_operator.api_objects import ApiObjects
from portway_proxy.verdicts import Verdicts

__all__ = ["AUDIENCE", "InvalidToken", "TokenHolder", "TokenReviewer", "TokenReviews"]

AUDIENCE: Final = "portway-config"
"""Whom a proxy's token is for: the API server itself refuses it, as do all others."""

_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_POD: Final = "authentication.kubernetes.io/pod-name"
_VALID: Final = 60.0
_INVALID: Final = 10.0  # A token may be used a moment before it is valid here.
_AT_ONCE: Final = 8
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,4096}\.([A-Za-z0-9_-]{1,4096})\.[A-Za-z0-9_-]{1,4096}")


class InvalidToken(Exception):
    """A token that is none of ours; the message says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """Whom a token belongs to: the account, the pod it is bound to (or empty), and when it expires (epoch seconds).

    groups: those that the account is in, which roles may be bound to.
    """

    account: str
    pod: str
    expires: float
    groups: tuple[str, ...] = ()


class TokenReviewer(Protocol):
    """Knows whose a token is."""

    async def review(self, token: str) -> TokenHolder:
        """Return who holds the token; raises `InvalidToken`, and `ApiUnavailable` when that cannot be told now."""


class _Claims(msgspec.Struct, frozen=True):
    aud: str | list[str]
    exp: float


class _User(msgspec.Struct, frozen=True):
    username: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, list[str]] = {}


class _Status(msgspec.Struct, frozen=True):
    authenticated: bool = False
    user: _User = _User()
    audiences: list[str] = []
    error: str = ""


class TokenReviews:
    """TokenReviews for one audience; `clock` is the time of day."""

    def __init__(self, api: ApiObjects, audience: str = AUDIENCE, clock: Callable[[], float] = time.time) -> None:
        self._api = api
        self._audience = audience
        self._clock = clock
        self._verdicts: Verdicts[bytes, TokenHolder | InvalidToken] = Verdicts(_AT_ONCE, clock)

    async def review(self, token: str) -> TokenHolder:
        """Return who holds the token; raises `InvalidToken`, and `ApiUnavailable` when that cannot be told now."""
        claims = self._claims(token)
        key = hashlib.sha256(token.encode()).digest()
        verdict = await self._verdicts.get(key, lambda: self._ask(token, claims))
        if isinstance(verdict, InvalidToken):
            raise verdict
        return verdict

    def _claims(self, token: str) -> _Claims:
        """Return what the token says of itself: what is not for us by its own words costs no question."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            raise InvalidToken("the token is no service account token")
        try:
            claims = msgspec.json.decode(base64.urlsafe_b64decode(found[1] + "==="), type=_Claims)
        except (binascii.Error, msgspec.DecodeError):
            raise InvalidToken("the token is no service account token for an audience") from None
        if self._audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise InvalidToken(f"the token is not for the audience {self._audience}")
        if claims.exp <= self._clock():
            raise InvalidToken("the token has expired")
        return claims

    async def _ask(self, token: str, claims: _Claims) -> tuple[TokenHolder | InvalidToken, float]:
        """Return whose the token is, and until when that is believed."""
        verdict = await self._review(token, claims)
        now = self._clock()
        return verdict, now + _INVALID if isinstance(verdict, InvalidToken) else min(now + _VALID, verdict.expires)

    async def _review(self, token: str, claims: _Claims) -> TokenHolder | InvalidToken:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        answer = await self._api.create(_PATH, review)
        try:
            status = msgspec.convert(answer.get("status"), _Status)
        except msgspec.ValidationError:
            status = _Status(error="the API server's answer is no TokenReview")
        if not status.authenticated:
            return InvalidToken(f"the API server does not know the token{_because(status.error)}")
        # An API server that knows no audiences leaves them out: then the token was checked for its own.
        if self._audience not in status.audiences:
            return InvalidToken(f"the token is not for the audience {self._audience}")
        pods = status.user.extra.get(_POD, [])
        return TokenHolder(status.user.username, pods[0] if pods else "", claims.exp, status.user.groups)


def _because(error: str) -> str:
    return f": {error[:200]}" if error else ""
