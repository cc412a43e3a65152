"""`portway proxy`, or `python -m portway_proxy`: a proxy that follows an operator, or serves one snapshot."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec
import uvloop

from portway_proxy.admin_review import OperatorReviews
from portway_proxy.dial import Operators
from portway_proxy.errors import BadSnapshot
from portway_proxy.feed import Feed
from portway_proxy.last_good import LastGood
from portway_proxy.listeners import PortUnavailable
from portway_proxy.logs import log_to_stderr
from portway_proxy.memory import give_back, keep_to_itself
from portway_proxy.options import Options, read_options, reread_settings
from portway_proxy.process import WorkerEnded
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor

__all__ = ["main", "run"]

_log = logging.getLogger("portway_proxy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal, and return the exit status: 0, or 1 when serving could not begin."""
    options = read_options(arguments)
    log_to_stderr(log_format=options.settings.log_format)
    give_back()
    keep_to_itself()
    try:
        uvloop.run(run(options, partial(reread_settings, arguments)))
    except (BadSnapshot, PortUnavailable, WorkerEnded, msgspec.DecodeError, OSError) as error:
        _log.error("%s", error)
        return 1
    return 0


async def run(options: Options, reread: Callable[[], ProxySettings] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain; SIGHUP renews the workers by the settings that `reread` returns.

    Raises `BadSnapshot`, `PortUnavailable`, `WorkerEnded`, `DecodeError` and `OSError` when serving cannot begin.
    """
    supervisor = Supervisor(options.settings)
    with supervisor.heeding_signals(reread):
        await _serve(supervisor, options)


async def _serve(supervisor: Supervisor, options: Options) -> None:
    settings = options.settings
    await supervisor.start()
    try:
        for name, port in (("http", supervisor.http_port), ("https", supervisor.https_port)):
            if port is not None:
                _log.info("%s on %s port %d", name, settings.address, port)
        _log.info("admin on %s port %d", settings.admin_address, supervisor.admin_port)
        async with _fed(supervisor, options):
            await supervisor.run_until_stopped()
    finally:
        await supervisor.close()


@asynccontextmanager
async def _fed(supervisor: Supervisor, options: Options) -> AsyncIterator[None]:
    """Give the proxy what to serve, and in between follow its operators."""
    if options.snapshot is not None:
        await supervisor.apply(msgspec.json.decode(options.snapshot.read_bytes(), type=Snapshot))
        yield
        return
    operators = Operators(options.operators, options.credentials)
    if options.settings.admin_access.review:
        supervisor.access.trust(OperatorReviews(operators, options.settings.node))
    last_good = LastGood(options.state_dir) if options.state_dir is not None else None
    feed = Feed(supervisor, operators, options.settings.node, last_good)
    await feed.start()
    try:
        yield
    finally:
        await feed.close()


if __name__ == "__main__":
    sys.exit(main())
