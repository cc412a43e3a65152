"""`python -m portway_proxy SNAPSHOT`: a proxy by itself, which serves one snapshot from a JSON file."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import msgspec
import uvloop

from portway_proxy.errors import BadSnapshot
from portway_proxy.listeners import PortUnavailable
from portway_proxy.logs import log_to_stderr
from portway_proxy.process import WorkerEnded
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor

__all__ = ["main"]

_log = logging.getLogger("portway_proxy")


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal, and return the exit status: 0, or 1 when serving could not begin."""
    parser = argparse.ArgumentParser(prog="python -m portway_proxy", description=__doc__)
    parser.add_argument("snapshot", type=Path, help="a snapshot as JSON")
    parser.add_argument(
        "--settings",
        default="{}",
        help='what departs from the usual settings, as JSON: {"http_port": 80, "timeouts": {"drain": 10}}',
    )
    chosen = parser.parse_args(arguments)
    log_to_stderr()
    try:
        settings = msgspec.json.decode(chosen.settings, type=ProxySettings)
        snapshot = msgspec.json.decode(chosen.snapshot.read_bytes(), type=Snapshot)
        uvloop.run(_serve(settings, snapshot))
    except (BadSnapshot, PortUnavailable, WorkerEnded, msgspec.DecodeError, OSError) as error:
        _log.error("%s", error)
        return 1
    return 0


async def _serve(settings: ProxySettings, snapshot: Snapshot) -> None:
    supervisor = Supervisor(settings)
    await supervisor.start()
    for name, port in (("http", supervisor.http_port), ("https", supervisor.https_port)):
        if port is not None:
            _log.info("%s on %s port %d", name, settings.address, port)
    _log.info("admin on %s port %d", settings.admin_address, supervisor.admin_port)
    try:
        await supervisor.apply(snapshot)
        await supervisor.run_until_stopped()
    finally:
        await supervisor.close()


if __name__ == "__main__":
    raise SystemExit(main())
