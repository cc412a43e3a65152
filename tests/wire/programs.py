"""Real programs behind and before a proxy: started for a test and ended with it; a test is skipped without them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from eventually import eventually
from wire.parts import free_port

__all__ = ["needed", "output", "postgres", "running_program", "tcp_answers"]

_PATIENCE = 30.0


def needed(*names: str) -> list[str]:
    """Return where these programs are; skips the test, and says why, where one is not installed."""
    places = [
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True),
        Path("/usr/sbin"),
        Path("/usr/local/sbin"),
    ]
    path = os.pathsep.join([os.environ["PATH"], *map(str, places)])
    found = {name: shutil.which(name, path=path) for name in names}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    return [place for place in found.values() if place is not None]


async def output(*command: str, given: bytes = b"", environment: Mapping[str, str] | None = None) -> str:
    """Return what a program prints, which must end well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            printed, _ = await process.communicate(given)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, printed.decode()
    return printed.decode()


async def tcp_answers(port: int) -> None:
    """Return once somebody listens on a port of this host."""

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        await writer.wait_closed()
        return True

    async with asyncio.timeout(_PATIENCE):
        while not await listens():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


@asynccontextmanager
async def running_program(*command: str, user: str | None = None) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the context; `user` is who it is when we are root."""
    chosen = user if os.geteuid() == 0 else None
    groups: list[str] | None = [] if chosen else None
    process = subprocess.Popen(  # noqa: ASYNC220 - it is a fork, and nothing waits for it
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        user=chosen,
        group="nogroup" if chosen else None,
        extra_groups=groups,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            await eventually(lambda: process.poll() is not None, 5.0)
        except AssertionError:
            process.kill()
            process.wait()


@asynccontextmanager
async def postgres(directory: Path, certificate: tuple[bytes, bytes]) -> AsyncIterator[int]:
    """Run a PostgreSQL server that takes TLS and plain connections, and yield its port."""
    initdb, server = needed("initdb", "postgres")
    root = os.geteuid() == 0
    port, data = free_port(), directory / "data"
    data.mkdir(mode=0o700)
    if root:
        for place in (directory, data):
            shutil.chown(place, "nobody", "nogroup")
        # Whoever is not root has to get there.
        for above in (directory, *directory.parents):
            if above.stat().st_uid == os.geteuid() and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
    made = await asyncio.to_thread(
        subprocess.run,
        [initdb, "-D", str(data), "-U", "portway", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"],
        user="nobody" if root else None,
        group="nogroup" if root else None,
        extra_groups=[] if root else None,
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr.decode()
    for name, content in zip(("server.crt", "server.key"), certificate, strict=True):
        (data / name).write_bytes(content)
        (data / name).chmod(0o600)
        if root:
            shutil.chown(data / name, "nobody", "nogroup")
    options = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={data}", "-c", "ssl=on"]
    async with running_program(server, "-D", str(data), "-p", str(port), *options, "-F", user="nobody"):
        await tcp_answers(port)
        yield port
