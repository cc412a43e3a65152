"""The `portway` command as people start it: a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from eventually import eventually

__all__ = ["Command", "portway"]

ANY_PORTS = ("--http-port", "0", "--https-port", "0", "--admin-port", "0")


class Command:
    """A running command and the lines that it wrote so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.out: list[str] = []
        self.err: list[str] = []
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.get_running_loop().create_task(_collect(stream, lines))
            for stream, lines in ((process.stdout, self.out), (process.stderr, self.err))
        ]

    @property
    def said(self) -> str:
        """Everything that the command wrote, for messages."""
        return "\n".join([*self.out, *self.err])

    def generation(self) -> int:
        """Return the number of the snapshot that was announced last."""
        found = [re.match(r"generation (\d+): ", line) for line in self.err]
        return max((int(match[1]) for match in found if match), default=0)

    def errors(self, pattern: str) -> list[str]:
        """Return the lines of standard error that hold `pattern`."""
        return [line for line in self.err if re.search(pattern, line)]

    async def until(self, pattern: str, count: int = 1) -> str:
        """Return the first line of either stream that holds `pattern`, once there are `count` of them."""
        found: list[str] = []

        def there() -> bool:
            found[:] = [line for line in [*self.out, *self.err] if re.search(pattern, line)]
            return len(found) >= count or self.process.returncode is not None

        await eventually(there, 30, f"no line with {pattern!r}")
        assert len(found) >= count, f"ended with {self.process.returncode} and no {pattern!r}:\n{self.said}"
        return found[0]

    async def port(self, name: str) -> int:
        """Return the real port of `http`, `https` or `admin`."""
        line = await self.until(r"^listening on ")
        found = re.search(rf":(\d+) \({name}\)", line)
        assert found is not None, line
        return int(found[1])

    async def serving(self) -> Command:
        """Wait until the first snapshot is served."""
        await self.until(r"^generation \d+: ")
        return self

    def children(self) -> set[int]:
        """Return the processes that the command started."""
        pids = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()}
        return {pid for pid in pids if _parent(pid) == self.process.pid}

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal the whole group, as a terminal does, and return the exit status; nothing may be left behind."""
        children = self.children()
        os.killpg(self.process.pid, number)
        status = await self.ended()
        await eventually(lambda: not any(_parent(pid) for pid in children), 10, "processes are left behind")
        return status

    async def ended(self) -> int:
        """Return the exit status."""
        done, _ = await asyncio.wait(self._readers, timeout=30)
        assert len(done) == len(self._readers), f"it does not end:\n{self.said}"
        return await self.process.wait()


@asynccontextmanager
async def portway(*arguments: str | Path, within: Sequence[str] = ()) -> AsyncIterator[Command]:
    """Run `portway` in a process group of its own; `within` is a command that becomes the one behind it."""
    process = await asyncio.create_subprocess_exec(
        *within,
        sys.executable,
        "-m",
        "portway_operator",
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
    )
    command = Command(process)
    try:
        yield command
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await command.ended()


async def _collect(stream: asyncio.StreamReader, lines: list[str]) -> None:
    while line := await stream.readline():
        lines.append(line.decode(errors="replace").rstrip("\n"))


def _parent(pid: int) -> int:
    """Return the parent of a process; 0 when the process is gone or only waits to be reaped."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[:2]
    except (OSError, ValueError):
        return 0
    return 0 if state == "Z" else int(parent)
