"""What the operator explains: requests to the proxies that serve what it publishes, whichever of them gets one."""

from __future__ import annotations

from typing import Final

from portway_operator.publish import Publisher
from portway_proxy.endpoint_states import EndpointPage, EndpointQuery
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Problem, Snapshot

__all__ = ["Published"]

_PORTS: Final = ProxySettings(http_port=80, https_port=443, workers=1)


class Published:
    """What is published now; how endpoints fare is each proxy's to know, and so are its ports."""

    settings = _PORTS
    http_port = _PORTS.http_port
    https_port = _PORTS.https_port
    affinity_key = b""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    @property
    def generation(self) -> int:
        """The number of what is published."""
        return self._publisher.version

    @property
    def snapshot(self) -> Snapshot | None:
        """What is published, or None before the first time."""
        update = self._publisher.published
        return None if update is None else update.snapshot

    @property
    def problems(self) -> tuple[Problem, ...]:
        """No more than those of the snapshot."""
        return ()

    async def endpoints(self, query: EndpointQuery) -> EndpointPage:  # noqa: ARG002 - as a proxy has it
        """Return none: nobody tells the operator of them."""
        return EndpointPage()
