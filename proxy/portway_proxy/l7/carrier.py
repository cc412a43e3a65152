"""What carries an exchange to its endpoint: a connection of HTTP/1.1, or a stream of HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from portway_proxy.l7.exchange import Exchange

__all__ = ["Carrier"]


class Carrier(Protocol):
    """What an exchange, and who asked, need of it. While `write_paused` the endpoint takes no more of the request.

    With an `open_ended` request its client may be silent for as long as the endpoint may.
    """

    write_paused: bool

    @property
    def open_ended(self) -> bool:
        """Whether the request goes on for as long as its response may."""

    @property
    def unsent(self) -> int:
        """How many bytes wait for the endpoint to take them."""

    def send(self, pieces: list[bytes]) -> None:
        """Send payload of the request's body."""

    def request_ended(self, exchange: Exchange) -> None:
        """End the request's body."""

    def abandon(self) -> None:
        """Let go of the exchange."""

    def pause(self) -> None:
        """Read no more of the response for now: the client does not keep up."""

    def resume(self) -> None:
        """Read again."""

    def squeeze(self) -> None:
        """Let no more wait for the endpoint than the limits allow now."""
