"""Whether the cluster lets the holder of a token see a proxy's pages: its operators ask the API server."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable
from portway_proxy.dial import OperatorRefused, Operators, Unreachable
from portway_proxy.stream import Review, ShownToken

__all__ = ["OperatorReviews"]

# What is none by its looks costs no question; a token of a service account has about one KiB.
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,4096}\.[A-Za-z0-9_-]{1,4096}")
_SECONDS: Final = 10.0  # The operator remembers for as long who may.
_REMEMBERED: Final = 256
_AT_ONCE: Final = 4  # Strangers must not make us flood the operators.
_NO_TOKEN: Final = "The token is no service account token."  # noqa: S105 - a sentence
_UNKNOWABLE: Final = "No operator can be asked about the token now."


@dataclass(frozen=True, slots=True)
class _Remembered:
    until: float
    review: Review


class OperatorReviews:
    """Tokens that the operators of the proxy `node` say count; what one said is remembered for ten seconds."""

    def __init__(self, operators: Operators, node: str) -> None:
        self._operators = operators
        self._node = node
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""
        if not _TOKEN.fullmatch(token):
            raise TokenRefused(_NO_TOKEN)
        key = hashlib.sha256(token.encode()).digest()
        known = self._remembered.get(key)
        if known is None or known.until <= time.monotonic():
            async with self._turns:
                known = self._remember(key, await self._ask(token))
        review = known.review
        if review.status in (401, 403):
            raise TokenRefused(review.reason, review.status)

    async def _ask(self, token: str) -> Review:
        """Return what the first operator says that can tell. Raises `TokenUnknowable`."""
        try:
            for target in await self._operators.resolve():
                try:
                    review = await self._operators.review(target, ShownToken(self._node, token))
                except (OperatorRefused, Unreachable):
                    continue
                if review.status in (200, 401, 403):
                    return review
        except Unreachable:
            pass
        raise TokenUnknowable(_UNKNOWABLE)

    def _remember(self, key: bytes, review: Review) -> _Remembered:
        remembered = self._remembered[key] = _Remembered(time.monotonic() + _SECONDS, review)
        self._remembered.move_to_end(key)
        if len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return remembered
