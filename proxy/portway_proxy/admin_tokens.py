"""Whether a token lets its holder see an admin server's pages: the one in a file, or what another part says of it."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final, Protocol

__all__ = ["TokenFile", "TokenRefused", "TokenUnknowable", "Verifier"]

# A token that can be guessed is none: 16 signs of base64 are 96 bits.
_SHORTEST: Final = 16


class TokenRefused(Exception):
    """A token does not count, or not for this; the message says why and quotes nothing of it."""

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class TokenUnknowable(Exception):
    """Nobody can say now whether a token counts; the message is for whoever showed it."""


class Verifier(Protocol):
    """Knows which tokens count."""

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""


class TokenFile:
    """The token in a file, which is read each time: whoever changes the file changes the token at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Return when the file holds a token; raises `ValueError` with a sentence for the user."""
        self._read()

    async def verify(self, token: str) -> None:
        """Return when the token counts; raises `TokenRefused`, and `TokenUnknowable` when that cannot be told now."""
        try:
            expected = self._read()
        except ValueError as error:
            raise TokenUnknowable(f"{error}") from None
        # By their digests: these are of one length, whatever was shown.
        if not hmac.compare_digest(_digest(token.encode(errors="replace")), _digest(expected)):
            raise TokenRefused("The token is not the one of this server.")

    def _read(self) -> bytes:
        try:
            token = self._path.read_bytes().strip()
        except OSError as error:
            raise ValueError(f"The admin token's file cannot be read: {error.strerror}.") from None
        if len(token) < _SHORTEST:
            raise ValueError(f"The admin token's file has fewer than {_SHORTEST} signs: write a longer token.")
        return token


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
