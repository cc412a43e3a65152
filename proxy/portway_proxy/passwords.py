"""Verifies passwords against the hashes of a Secret: bcrypt, Apache's MD5, SHA-1 and crypt, as htpasswd writes them.

A hash is slow by intent, so whoever asks does it in a thread (`Hashing`) and asks `Verifier.recall` first: a pair that
was verified before is known again by a keyed digest of it, and by nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from passlib.context import CryptContext

    from portway_proxy.snapshot import Credentials

__all__ = ["Hashing", "Verifier"]

_log = logging.getLogger(__name__)

_THREADS: Final = 2  # Most of crypt holds the interpreter's lock: more threads would only make the loop wait longer.
_WAITING: Final = 32  # Pairs of one Secret that may wait: with bcrypt's usual cost of 10 the last one for a second.
_REMEMBERED: Final = 1024  # Verdicts that are kept, of each kind, for each Secret.
_SCHEMES: Final = (
    "apr_md5_crypt",
    "md5_crypt",
    "sha256_crypt",
    "sha512_crypt",
    "des_crypt",
    "ldap_sha1",
    "ldap_salted_sha1",
)
_PLAIN: Final = "{PLAIN}"
_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")


class Verifier:
    """Verifies the pairs of one Secret.

    `recall` and `note` belong to the loop's thread; `verify` may run in any. The very same digest that is being
    verified need not be verified twice: `waiting` has who waits for it.
    """

    __slots__ = ("_bad", "_decoy", "_good", "_key", "_users", "credentials", "waiting")

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self.waiting: dict[bytes, list[Callable[[bool], None]]] = {}
        self._users = {user.encode(): hashed for user, hashed in credentials.users}
        self._decoy = next(iter(self._users.values()), "")
        self._key = token_bytes(32)
        self._good: set[bytes] = set()
        self._bad: set[bytes] = set()

    def digest(self, value: bytes) -> bytes:
        """Return what stands for the value of an Authorization field in what is remembered."""
        return hashlib.blake2b(value, key=self._key, digest_size=32).digest()

    def recall(self, digest: bytes) -> bool | None:
        """Return the verdict that was found before, or None."""
        if digest in self._good:
            return True
        return False if digest in self._bad else None

    def note(self, digest: bytes, *, passes: bool) -> None:
        """Remember a verdict. Bad ones, which anybody can make, never push out good ones."""
        verdicts = self._good if passes else self._bad
        if len(verdicts) >= _REMEMBERED:
            verdicts.clear()
        verdicts.add(digest)

    def verify(self, value: bytes) -> bool:
        """Return whether the value of an Authorization field names a user and the user's password. It is slow.

        A user who does not exist takes as long as one who does.
        """
        pair = _pair(value)
        if pair is None:
            return False
        user, password = pair
        hashed = self._users.get(user)
        return _matches(password, hashed or self._decoy) and hashed is not None


def _pair(value: bytes) -> tuple[bytes, bytes] | None:
    """Return user and password of `Basic dXNlcjpwYXNz`, or None for anything else (RFC 7617, 2)."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(b" "), validate=True).partition(b":")
    except binascii.Error:
        return None
    return (user, password) if colon and b"\0" not in password else None


def _matches(password: bytes, hashed: str) -> bool:
    if hashed.startswith(_PLAIN):
        return hmac.compare_digest(password, hashed[len(_PLAIN) :].encode())
    try:
        if hashed.startswith(_BCRYPT):
            # It counts 72 bytes of a password. Apache and nginx cut off the rest, and so do we.
            return _bcrypt(password[:72], hashed.encode())
        return bool(_context().verify(password, hashed))
    except ValueError:
        return False  # No hash that anybody knows, or a password that the scheme cannot take.


@cache
def _context() -> CryptContext:
    from passlib.context import CryptContext  # noqa: PLC0415 - 12 MB, and most proxies ask for no password

    return CryptContext(schemes=_SCHEMES)


def _bcrypt(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # noqa: PLC0415 - most proxies ask for no password

    return bcrypt.checkpw(password, hashed)


class Hashing:
    """Verifies pairs in threads, and calls back in the loop; a bounded number of a Secret's pairs may wait."""

    __slots__ = ("_loop", "_threads")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._threads: ThreadPoolExecutor | None = None

    def ask(self, verifier: Verifier, value: bytes, digest: bytes, then: Callable[[bool], None]) -> bool:
        """Call `then` with the verdict, later; return False when too many wait already."""
        waiting = verifier.waiting
        others = waiting.get(digest)
        if others is not None:
            others.append(then)
            return True
        if len(waiting) >= _WAITING:
            return False
        waiting[digest] = [then]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, "passwords")
        future = self._loop.run_in_executor(self._threads, verifier.verify, value)
        future.add_done_callback(lambda done: self._tell(verifier, digest, done))
        return True

    def _tell(self, verifier: Verifier, digest: bytes, done: asyncio.Future[bool]) -> None:
        passes = False
        if (fault := done.exception()) is not None:
            _log.error("a password of %s could not be verified: %r", verifier.credentials.name, fault)
        else:
            passes = done.result()
            verifier.note(digest, passes=passes)
        for then in verifier.waiting.pop(digest):
            then(passes)
