"""Whether the cluster lets the holder of a token see the operator's pages: whose it is, and what their roles allow.

As proxies of RBAC do for metrics: a TokenReview says who, a SubjectAccessReview whether they may `get` a path that is
none of an object's (https://kubernetes.io/docs/reference/access-authn-authz/authorization/).
"""

from __future__ import annotations

import time
from typing import Final

import msgspec

from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.token_review import InvalidToken, TokenHolder, TokenReviewer
from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable
from portway_proxy.verdicts import Verdicts

__all__ = ["ADMIN_AUDIENCE", "ADMIN_RIGHT", "ReviewedTokens"]

ADMIN_AUDIENCE: Final = "portway-admin"
"""Whom such a token is for: one for the API server has no place on a port without TLS."""

ADMIN_RIGHT: Final = "/portway/admin"
"""The path that a role has to allow to `get`."""

_PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SECONDS: Final = 10.0  # A role that is taken away counts for so long; the API server's own cache has 10 to 300.
_AT_ONCE: Final = 4
_MEND: Final = "bind a ClusterRole to it that allows this nonResourceURL."
_UNKNOWABLE: Final = "The API server cannot be asked about the token now."


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False


class ReviewedTokens:
    """Tokens that `reviewer` knows, of accounts that may `get` `/portway/admin`."""

    def __init__(self, reviewer: TokenReviewer, api: ApiObjects) -> None:
        self._reviewer = reviewer
        self._api = api
        self._verdicts: Verdicts[TokenHolder, bool] = Verdicts(_AT_ONCE)

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""
        try:
            holder = await self._reviewer.review(token)
            allowed = await self._verdicts.get(holder, lambda: self._ask(holder))
        except InvalidToken as error:
            raise TokenRefused(f"The token does not count: {error}.") from None
        except ApiUnavailable:
            raise TokenUnknowable(_UNKNOWABLE) from None
        if not allowed:
            raise TokenRefused(f"{holder.account} may not get {ADMIN_RIGHT}: {_MEND}", 403)

    async def _ask(self, holder: TokenHolder) -> tuple[bool, float]:
        """Return whether the holder may, and until when that is believed."""
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
            allowed = msgspec.convert(answer.get("status"), _Status).allowed
        except msgspec.ValidationError:
            allowed = False
        return allowed, time.monotonic() + _SECONDS
