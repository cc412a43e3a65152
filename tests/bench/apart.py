"""Runs the benchmark in a network namespace of its own, so that the host's settings of TCP do not decide it.

Some hosts pace every sender by a timer (BBR). Over loopback that timer is most of what moving bytes costs, for every
proxy alike, and hides what the proxies themselves cost. The namespace has CUBIC, the kernel's own default.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

__all__ = ["ALGORITHM", "congestion_control", "go_apart"]

ALGORITHM = "cubic"
_MARK = "PORTWAY_BENCH_APART"
# A property of the routes: the sysctl refuses what the host does not allow its users.
_ROUTES = "".join(
    f"ip route replace local {network} dev lo table local proto kernel scope host src 127.0.0.1 "
    f"congctl lock {ALGORITHM} && "
    for network in ("127.0.0.0/8", "127.0.0.1")
)
_SCRIPT = f'ip link set lo up && {_ROUTES} exec "$@"'


def congestion_control() -> str:
    """Return the congestion control that the benchmark's connections have."""
    if os.environ.get(_MARK):
        return f"{ALGORITHM}, in a namespace of our own"
    return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def go_apart() -> None:
    """Become this program in a namespace of its own; where that is impossible return, and the host's TCP decides."""
    if os.environ.get(_MARK) or os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")):
        return
    os.environ[_MARK] = "1"
    again = [sys.executable, "-m", "bench", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--net", "--", "sh", "-c", _SCRIPT, "sh", *again])
