"""What it costs that somebody looks at the dashboard, beside what traffic costs while nobody does."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bench.contest import Running, Values
from bench.load import Manner, wrk
from bench.processes import Fault

__all__ = ["looked_at"]

_STEADY = Manner(connections=32, script="function delay() return 30 end")  # About 1,000 requests/s.
_LONGER = 5  # Times a measurement of another row: a look is a small part of what happens in a second.


def looked_at(running: Running, seconds: float) -> Values:
    """Return what requests cost while nobody looks, and what it costs beside that one reader has the stream."""
    seconds *= _LONGER
    alone = _spent(running, seconds)
    with _reading(running.admin) as read:
        looked = _spent(running, seconds)
    if not read:
        raise Fault("nothing came on the stream")
    (cpu, aside, requests), (cpu_looked, aside_looked, requests_looked) = alone, looked
    # The same requests would have cost the worker this much without a reader.
    more = cpu_looked - cpu * requests_looked / requests
    return {
        "cpu": cpu / requests * 1e6,
        "rate": requests_looked / seconds,
        "aside": aside / seconds * 100,
        "watched": aside_looked / seconds * 100,
        "stream": (more + aside_looked - aside) / seconds * 100,
        "sent": sum(map(len, read)) / seconds / 1e3,
    }


def _spent(running: Running, seconds: float) -> tuple[float, float, int]:
    """Return the CPU seconds of the workers and of the supervisor, and the requests that they are for."""
    cpu, aside = running.cpu()
    load = wrk(running, seconds, _STEADY)
    cpu_after, aside_after = running.cpu()
    return cpu_after - cpu, aside_after - aside, load.requests


@contextmanager
def _reading(port: int) -> Iterator[list[bytes]]:
    """Read the stream, as one browser does; what came is in the list."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/dashboard/routes")
    connection.getresponse().read()
    connection.request("GET", "/dashboard/stream")
    response = connection.getresponse()
    read: list[bytes] = []
    ended = threading.Event()

    def take() -> None:
        while not ended.is_set() and (part := response.read1(65536)):
            read.append(part)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield read
    finally:
        ended.set()
        thread.join()
        connection.close()
