"""The row of certificates: one of 10,000 is renewed, and all workers show it.

The supervisor runs here, as in `portway proxy`; what an operator does before is not in it.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec
import uvloop

from bench.accounting import cpu_seconds
from bench.contest import Budget, Column, Contender, Outcome, Row, Values, measured_apart
from bench.peers import Portway
from bench.processes import Fault
from bench.scene import Scene
from certs import issue
from portway_proxy.process import WorkerEnded
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Certificate, Host, Origin, PathMatch, Route, Snapshot, Upstream
from portway_proxy.supervisor import Supervisor

__all__ = ["CERTIFICATES", "measure_certificates"]

_MANY = 10_000
_KEYS = 50  # Keys of RSA take a tenth of a second each: some share one, under other names and with other bytes.
_SWAPS = 20
_PAUSE = 0.2
_REQUEST = b"GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n"


CERTIFICATES = Row(
    "certificates",
    f"One of {_MANY:,} certificates with RSA keys, each for a host with a route, is renewed; one worker",
    (Contender(Portway(), Scene()),),
    (
        Column("swap", "ms until served", 0),
        Column("worst", "worst ms", 0),
        Column("supervisor", "supervisor CPU ms", 0),
        Column("worker", "worker CPU ms", 0),
        Column("stall", "worst ms of a request meanwhile", 0),
    ),
    measured_apart,
    budgets=(Budget("portway", "swap", 200),),
    once=True,
)


def measure_certificates(show: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure the row; half a minute."""
    outcome = Outcome(CERTIFICATES)
    try:
        outcome.rounds = {"portway": [uvloop.run(_measure())]}
    except (Fault, OSError, WorkerEnded) as error:
        outcome.absent = {"portway": f"failed: {error}"}
    show(outcome)
    return [outcome]


async def _measure() -> Values:
    supervisor = Supervisor(ProxySettings(http_port=0, https_port=0, admin_port=0, workers=1, access_log=False))
    await supervisor.start()
    try:
        snapshot = _snapshot()
        await supervisor.apply(snapshot)
        return await _renewals(supervisor, snapshot)
    finally:
        await supervisor.close()


async def _renewals(supervisor: Supervisor, snapshot: Snapshot) -> Values:
    [worker] = supervisor._serving.values()
    client = _Client()
    asking = asyncio.get_running_loop().create_task(client.ask(supervisor.http_port or 0))
    took: list[float] = []
    before = cpu_seconds([worker.pid]), cpu_seconds([os.getpid()])
    renewing = 0.0
    for number in range(_SWAPS):
        started = time.process_time()
        renewed = _renewed(snapshot, number)
        renewing += time.process_time() - started
        began = time.perf_counter()
        await supervisor.apply(renewed)
        took.append(time.perf_counter() - began)
        await asyncio.sleep(_PAUSE)
    after = cpu_seconds([worker.pid]), cpu_seconds([os.getpid()])
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    return {
        "swap": statistics.median(took) * 1e3,
        "worst": max(took) * 1e3,
        "supervisor": (after[1] - before[1] - renewing) / _SWAPS * 1e3,
        "worker": (after[0] - before[0]) / _SWAPS * 1e3,
        "stall": client.worst * 1e3,
    }


class _Client:
    """Asks the worker again and again, a little after each answer; `worst` is the longest wait in seconds."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def ask(self, port: int) -> None:
        """Ask until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            began = time.perf_counter()
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
            self.worst = max(self.worst, time.perf_counter() - began)
            await asyncio.sleep(0.005)


def _snapshot() -> Snapshot:
    pairs = [issue(f"h{number}.example", rsa=True) for number in range(_KEYS)]
    certificates, hosts = [], []
    for number in range(_MANY):
        chain, key = pairs[number % _KEYS]
        name = f"h{number:05}.example"
        certificates.append(Certificate(f"many/{number:05}", (name,), b"# %d\n%b" % (number, chain), key, 0))
        route = Route("/", PathMatch.PREFIX, "many/web:80", Origin("Ingress", "many", f"i{number}"))
        hosts.append(Host(name, (route,)))
    return Snapshot(
        hosts=tuple(hosts),
        upstreams=(Upstream("many/web:80", reason="no_endpoints"),),
        certificates=tuple(certificates),
    )


def _renewed(snapshot: Snapshot, number: int) -> Snapshot:
    """Return the snapshot with another certificate and key in one place."""
    chain, key = issue(f"h{number:05}.example")
    certificates = list(snapshot.certificates)
    certificates[number] = msgspec.structs.replace(certificates[number], chain=chain, key=key)
    return msgspec.structs.replace(snapshot, certificates=tuple(certificates))
