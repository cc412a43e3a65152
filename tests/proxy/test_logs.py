from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from portway_proxy.logs import log_to_stderr

# Logs more than a pipe holds and its queue besides, says so on standard output, and once told to logs one more line.
_CHATTY = """
import logging, sys
from portway_proxy.logs import log_to_stderr
log_to_stderr()
for number in range(3000):
    logging.getLogger("x").info("%d %s", number, "y" * 200)
print("done", flush=True)
sys.stdin.readline()
logging.getLogger("x").info("the last one")
"""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def written(capfd: pytest.CaptureFixture[str]) -> str:
    """Return what was written to standard error, all of it."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return capfd.readouterr().err


def test_a_line_has_level_name_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("portway_proxy.some").error("port %d is taken", 80)
    logging.getLogger("portway_proxy.some").debug("hidden")
    assert written(capfd) == "error portway_proxy.some port 80 is taken\n"


def test_a_value_cannot_begin_a_line_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    log_to_stderr()
    logging.getLogger("x").error("%s", "a\nerror x forged\r")
    assert written(capfd) == "error x a\\nerror x forged\\r\n"


def test_who_does_not_read_standard_error_holds_nobody_up_and_is_told_how_much_was_lost() -> None:
    command = [sys.executable, "-c", _CHATTY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"done\n"  # Though nothing was read.
        first = process.stderr.readline()
        # What waits for a reader is read first, or the last line would be lost as well.
        lines = [first, *(process.stderr.readline() for _ in range(999))]
        process.stdin.write(b"\n")
        process.stdin.close()
        lines += process.stderr.readlines()
    assert process.returncode == 0
    assert lines[0].startswith(b"info x 0 y")
    assert lines[-1] == b"info x the last one\n"
    told = [re.fullmatch(rb"warning portway_proxy.logs (\d+) lines were lost here.*\n", line) for line in lines]
    assert told[-2] is not None
    kept = sum(line.startswith(b"info x ") for line in lines)
    assert sum(int(found[1]) for found in told if found) == 3001 - kept > 1000


def test_a_process_ends_though_nobody_reads_its_last_lines() -> None:
    command = [sys.executable, "-c", _CHATTY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait(timeout=20) == 0
