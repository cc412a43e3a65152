"""Whether the cluster lets the holder of a token see the operator's pages: whose it is, and what their roles allow.

As proxies of RBAC do for metrics: a TokenReview says who, a SubjectAccessReview whether they may `get` a path that is
none of an object's (https://kubernetes.io/docs/reference/access-authn-authz/authorization/).
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import msgspec

from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.token_review import InvalidToken, TokenHolder, TokenReviewer
from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable

__all__ = ["ADMIN_AUDIENCE", "ADMIN_RIGHT", "ReviewedTokens"]

ADMIN_AUDIENCE: Final = "portway-admin"
"""Whom such a token is for: one for the API server has no place on a port without TLS."""

ADMIN_RIGHT: Final = "/portway/admin"
"""The path that a role has to allow to `get`."""

_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_REMEMBERED: Final = 256
_SECONDS: Final = 10.0  # A role that is taken away counts for so long; the API server's own cache has 10 to 300.
_AT_ONCE: Final = 4
_MEND: Final = "bind a ClusterRole to it that allows this nonResourceURL."
_UNKNOWABLE: Final = "The API server cannot be asked about the token now."


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False


@dataclass(frozen=True, slots=True)
class _Remembered:
    until: float
    allowed: bool


class ReviewedTokens:
    """Tokens that `reviewer` knows, of accounts that may `get` `/portway/admin`."""

    def __init__(self, reviewer: TokenReviewer, api: ApiObjects) -> None:
        self._reviewer = reviewer
        self._api = api
        self._remembered: OrderedDict[TokenHolder, _Remembered] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""
        try:
            holder = await self._reviewer.review(token)
            allowed = await self._allowed(holder)
        except InvalidToken as error:
            raise TokenRefused(f"The token does not count: {error}.") from None
        except ApiUnavailable:
            raise TokenUnknowable(_UNKNOWABLE) from None
        if not allowed:
            raise TokenRefused(f"{holder.account} may not get {ADMIN_RIGHT}: {_MEND}", 403)

    async def _allowed(self, holder: TokenHolder) -> bool:
        known = self._remembered.get(holder)
        if known is None or known.until <= time.monotonic():
            async with self._turns:
                known = self._remember(holder, await self._ask(holder))
        return known.allowed

    def _remember(self, holder: TokenHolder, allowed: bool) -> _Remembered:  # noqa: FBT001 - the API's own verdict
        remembered = self._remembered[holder] = _Remembered(time.monotonic() + _SECONDS, allowed)
        self._remembered.move_to_end(holder)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return remembered

    async def _ask(self, holder: TokenHolder) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": holder.account,
                "groups": holder.groups,
                "nonResourceAttributes": {"path": ADMIN_RIGHT, "verb": "get"},
            },
        }
        answer = await self._api.create(_PATH, review)
        try:
            return msgspec.convert(answer.get("status"), _Status).allowed
        except msgspec.ValidationError:
            return False
