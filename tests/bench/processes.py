"""Processes that the benchmark starts: pinned to a core, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["Fault", "free_port", "last_line", "output", "pinned", "started"]

_PATIENCE = 5.0


class Fault(Exception):
    """A measurement that cannot be made; the rest goes on without it."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pinned(core: int, command: list[str]) -> list[str]:
    """Return the command that runs `command` on one core alone, in the same process."""
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` in a session of its own with both outputs appended to `log`; end it and its children after."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, cwd=log.parent, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def last_line(text: str) -> str:
    """Return the last line of what a program printed: why it ended, if it said so."""
    return text.strip().rpartition("\n")[2][-300:]


def output(command: list[str], timeout: float) -> str:
    """Return what `command` prints on both outputs; raises `Fault` when it fails or takes longer than `timeout`."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=True
        )
    except subprocess.CalledProcessError as error:
        raise Fault(f"{command[-1]}: exit {error.returncode}: {last_line(str(error.stdout))}") from None
    except subprocess.TimeoutExpired:
        raise Fault(f"{command[-1]}: no end after {timeout:.0f} s") from None
    return done.stdout
