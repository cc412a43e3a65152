"""How a request begins while the worker has too much to do."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from portway_proxy.errors import MemoryShort
from portway_proxy.l7 import flow
from portway_proxy.l7.exchange import Exchange

if TYPE_CHECKING:
    from portway_proxy.l7.asker import Asker
    from portway_proxy.l7.request import RequestHead

__all__ = ["begin_in_time", "refuse"]


def begin_in_time(client: Asker, head: RequestHead) -> None:
    """Begin, unless the loop should have looked at its clock long ago (`Http.late_from`): who comes now has waited.

    Such a request is refused in a moment (`Http.refused`): who is told at once comes again at once.
    """
    if monotonic() > client.http.late_from:
        client.http.refused.append(_unrouted(client, head))
    else:
        client.http.usual(client, head)


def refuse(client: Asker, head: RequestHead) -> None:
    """Refuse a request that comes while memory is short."""
    flow.fail(_unrouted(client, head), MemoryShort("there is no memory for another request"))


def _unrouted(client: Asker, head: RequestHead) -> Exchange:
    http = client.http
    exchange = client.exchange = Exchange(client, head, http.loop.time())
    if not head.request_id:
        head.request_id = http.request_id()
    return exchange
