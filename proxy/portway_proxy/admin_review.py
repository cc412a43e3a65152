"""Whether the cluster lets the holder of a token see a proxy's pages: its operators ask the API server."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Final

from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable
from portway_proxy.dial import OperatorRefused, Operators, Unreachable
from portway_proxy.stream import Review, ShownToken
from portway_proxy.verdicts import Verdicts

__all__ = ["OperatorReviews"]

# What is none by its looks costs no question; a token of a service account has about one KiB.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,4096}")
_SECONDS: Final = 10.0  # The operator remembers for as long who may.
_AT_ONCE: Final = 4
_NO_TOKEN: Final = "The token is no service account token."  # noqa: S105 - a sentence
_UNKNOWABLE: Final = "No operator can be asked about the token now."


class OperatorReviews:
    """Tokens that the operators of the proxy `node` say count; what one said is remembered for ten seconds."""

    def __init__(self, operators: Operators, node: str) -> None:
        self._operators = operators
        self._node = node
        self._verdicts: Verdicts[bytes, Review] = Verdicts(_AT_ONCE)

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""
        if not _TOKEN.fullmatch(token):
            raise TokenRefused(_NO_TOKEN)
        key = hashlib.sha256(token.encode()).digest()
        review = await self._verdicts.get(key, lambda: self._ask(token))
        if review.status in (401, 403):
            raise TokenRefused(review.reason, review.status)

    async def _ask(self, token: str) -> tuple[Review, float]:
        """Return what the first operator says that can tell, and until when that is believed.

        Raises `TokenUnknowable`.
        """
        try:
            for target in await self._operators.resolve():
                try:
                    review = await self._operators.review(target, ShownToken(self._node, token))
                except (OperatorRefused, Unreachable):
                    continue
                if review.status in (200, 401, 403):
                    return review, time.monotonic() + _SECONDS
        except Unreachable:
            pass
        raise TokenUnknowable(_UNKNOWABLE)
