"""Whom a proxy believes what they say about clients, as a part of the contract (`snapshot.Trust`): values alone."""

from __future__ import annotations

from enum import StrEnum

import msgspec

__all__ = ["Belief", "Trust"]


class Belief(StrEnum):
    """What of a trusted peer's fields counts: nothing, the client's `address`, or the whole `request`."""

    NOTHING = "nothing"
    ADDRESS = "address"
    REQUEST = "request"


class Trust(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whom the proxy believes what they say about clients, and what of it; peers outside `networks` are not asked.

    `networks` are written as `10.0.0.0/8` and sorted. `belief` is about the fields of a request: `field` (any case)
    names the one that holds the client's address, and `REQUEST` takes scheme, host, port and prefix from
    X-Forwarded-* too. `append`: endpoints get the X-Forwarded-For that came, with the peer behind it, in the place of
    the client alone. `proxy_protocol`: every connection of such a peer to the HTTP and HTTPS ports begins with a
    header of the PROXY protocol, within `patience` seconds.
    """

    networks: tuple[str, ...] = ()
    belief: Belief = Belief.NOTHING
    field: str = "X-Forwarded-For"
    append: bool = False
    proxy_protocol: bool = False
    patience: float = 5.0  # ingress-nginx's proxy-protocol-header-timeout.
