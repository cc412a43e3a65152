"""Snapshots whose secrets are fingerprints, as a history keeps them, beside others.

A fingerprint is made with a key of its own process: it tells the secrets of one history apart, and nothing else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from portway_proxy.redaction import Redaction
from portway_proxy.snapshot import Credentials, Snapshot

__all__ = ["NOTE", "redacted", "veiled"]

NOTE: Final = (
    "Of passwords and of other secret values a side has fingerprints, which cannot be compared: names and numbers are."
)

_MARK: Final = b"fingerprint:"


def redacted(snapshot: Snapshot) -> bool:
    """Return whether there are fingerprints in the place of secrets."""
    return _MARK in msgspec.msgpack.encode(snapshot)


def veiled(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with one and the same text in the place of each secret, or of its fingerprint."""
    # Users by the Secret's name and their number: those of another Secret are others.
    credentials = tuple(
        Credentials(one.name, tuple((f"{one.name} {number}", "") for number in range(len(one.users))))
        for one in snapshot.credentials
    )
    return msgspec.structs.replace(Redaction().snapshot(snapshot), credentials=credentials)
