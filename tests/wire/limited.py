"""A proxy of one worker, with limits: in this process's children, or in a process of its own that may have little."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from portway_proxy.settings import Limits
from portway_proxy.supervisor import Supervisor
from wire.parts import Web, running, settings, snapshot

__all__ = ["confined", "limited"]

_CONFINED = """
import asyncio, resource, sys
import msgspec, uvloop
from pathlib import Path
from portway_proxy import worker
from portway_proxy.settings import ProxySettings
from portway_proxy.snapshot import Snapshot
from portway_proxy.supervisor import Supervisor

async def main():
    settings = msgspec.json.decode(sys.argv[1], type=ProxySettings)
    snapshot = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=Snapshot)
    supervisor = Supervisor(settings)
    await supervisor.start()
    await supervisor.apply(snapshot)
    print(supervisor.http_port, supervisor.admin_port, *[one.pid for one in supervisor._serving.values()], flush=True)
    await supervisor.run_until_stopped()

resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]), int(sys.argv[3])))
if sys.argv[4]:
    Path(sys.argv[4], "cgroup.procs").write_text("0")
asyncio.run(main())
"""


@asynccontextmanager
async def confined(
    endpoint: int, directory: Path, descriptors: int, group: str = "", **limits: float
) -> AsyncIterator[list[int]]:
    """Run a proxy of one worker that may have so many descriptors, in a control group; yields its ports and worker."""
    file = directory / "snapshot.json"
    file.write_bytes(msgspec.json.encode(snapshot(endpoint)))
    chosen = msgspec.structs.replace(settings(workers=1), limits=msgspec.structs.replace(Limits(), **limits))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _CONFINED, msgspec.json.encode(chosen).decode()),
        *(str(file), str(descriptors), group),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(10):
            said = await process.stdout.readline()
        yield [int(word) for word in said.split()]
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@asynccontextmanager
async def limited(web: Web, **limits: float) -> AsyncIterator[Supervisor]:
    """Run a proxy of one worker with these limits."""
    chosen = msgspec.structs.replace(settings(workers=1), limits=msgspec.structs.replace(Limits(), **limits))
    async with running(chosen) as proxy:
        await proxy.apply(snapshot(web.port))
        yield proxy
