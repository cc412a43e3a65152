"""What a route may ask for beyond forwarding: a part of the contract (`snapshot.Policy`), values and no behaviour."""

from __future__ import annotations

import msgspec

__all__ = ["BasicAuth", "Credentials", "Policy"]


class Credentials(msgspec.Struct, frozen=True):
    """Users and the hashes of their passwords; `name` is the Secret's `namespace/name`, `users` are sorted.

    Neither `repr` nor `str` shows the users.
    """

    name: str
    users: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        """Return the name and how many users there are; never a hash."""
        return f"Credentials(name={self.name!r}, users=<{len(self.users)}>)"


class BasicAuth(msgspec.Struct, frozen=True):
    """A user and a password of the `Credentials` of that name are needed (RFC 7617)."""

    credentials: str
    realm: str = ""


class Policy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a route asks for beyond forwarding; a route without any of it has no policy at all.

    `https_redirect`: requests that came without TLS get a 308 to https.
    `body_size`: the most bytes a request body may have; None leaves the proxy's own limit, 0 lifts it.
    `closed`: a reason code; when set, every request gets 503 (a security setting could not be read).
    """

    https_redirect: bool = False
    body_size: int | None = None
    closed: str = ""
    basic: BasicAuth | None = None

    @property
    def guards(self) -> bool:
        """Whether it keeps anybody away, so that nothing may go around it."""
        return bool(self.closed) or self.basic is not None
