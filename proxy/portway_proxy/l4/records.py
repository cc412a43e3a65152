"""What the access log is told of a connection, or a UDP client, that has ended."""

from __future__ import annotations

from typing import Protocol

import msgspec

__all__ = ["RelayLog", "RelayRecord"]


class RelayRecord(msgspec.Struct, frozen=True):
    """What the access log says of a connection that has ended.

    `listener` is its name (`tcp/5432`), `client` the address without the port; `endpoint` is empty when none was
    reached. `bytes_in` came from the client and went to the endpoint, `bytes_out` the other way. `reason` is `done`, or
    why it ended otherwise.
    """

    listener: str
    client: str
    upstream: str
    endpoint: str
    bytes_in: int
    bytes_out: int
    seconds: float
    reason: str


class RelayLog(Protocol):
    """Where records go."""

    def relay(self, record: RelayRecord) -> None:
        """Note a connection that has ended."""
