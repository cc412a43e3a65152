"""The command line: which rows, how long, and where the results go."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import signal
import sys
from pathlib import Path

from bench.apart import congestion_control, go_apart
from bench.certificates import CERTIFICATES, measure_certificates
from bench.contest import Effort, Outcome, Row, contest
from bench.load import wrk_missing
from bench.peers import Nginx, Peer
from bench.report import as_data, as_markdown, as_text
from bench.rows import ROWS
from bench.scale import SCALE, measure_scale
from bench.soak import SOAK, measure_soak
from bench.stage import Cores, opened

_FULL = Effort(rounds=3, seconds=2.0, warm=1.0)
_FILES = 65_536
_QUICK = Effort(rounds=1, seconds=1.0, warm=0.0)


def main() -> int:
    """Run the rows that were asked for; 0 unless the load generator or the endpoint cannot be started at all."""
    options = _options()
    go_apart()
    needed = [name for name in (wrk_missing(), Nginx().missing(), _taskset_missing()) if name]
    if needed:
        print("The benchmark itself needs: " + "; ".join(needed), file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    _allow_many_files()
    effort = _QUICK if options.quick else _FULL
    effort = Effort(options.rounds or effort.rounds, options.seconds or effort.seconds, effort.warm)
    rows = [row for row in ROWS if not options.rows or any(_named(row, key) for key in options.rows)]
    # Only when asked for: it takes a control plane, whose programs may have to be built first.
    scaled = any(row.key.startswith(key) for row in SCALE for key in options.rows or ())
    # Likewise: minutes for a single figure.
    soaked = any(row.key.startswith(key) for row in SOAK for key in options.rows or ())
    certified = any(CERTIFICATES.key.startswith(key) for key in options.rows or ())
    machine = _machine()
    print("\n".join(f"{key}: {value}" for key, value in machine.items()), end="\n\n")
    outcomes: list[Outcome] = []
    with opened() as stage:
        for row in rows:
            outcomes.append(contest(stage, row, effort))
            print(as_text(outcomes[-1]), flush=True)
        if scaled:
            outcomes += measure_scale(stage, lambda outcome: print(as_text(outcome), flush=True))
        if certified:
            outcomes += measure_certificates(lambda outcome: print(as_text(outcome), flush=True))
        if soaked:
            outcomes += measure_soak(stage, lambda outcome: print(as_text(outcome), flush=True))
    notes = _notes(rows)
    print("\n".join(notes))
    if options.markdown:
        tables = [as_markdown(outcome) for outcome in outcomes]
        options.markdown.write_text("\n".join([*tables, *(f"- {note}" for note in notes), ""]))
    if options.json:
        data = {"machine": machine, "effort": vars(effort), "rows": [as_data(outcome) for outcome in outcomes]}
        options.json.write_text(json.dumps(data, indent=2) + "\n")
    return 0


def _options() -> argparse.Namespace:
    keys = ", ".join([*(row.key for row in ROWS), "scale", "certificates", "soak"])
    parser = argparse.ArgumentParser(prog="make bench", description="Portway beside other proxies.")
    parser.add_argument(
        "--rows", nargs="+", metavar="KEY", help=f"only these rows, or those whose keys begin so: {keys}"
    )
    parser.add_argument("--rounds", type=int, help=f"measurements of each contender ({_FULL.rounds})")
    parser.add_argument("--seconds", type=float, help=f"length of a measurement ({_FULL.seconds:g})")
    parser.add_argument("--quick", action="store_true", help="one short round: does it run at all?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    return parser.parse_args()


def _named(row: Row, key: str) -> bool:
    # A whole key is that row alone; else it is how the keys of several begin.
    return row.key == key if any(other.key == key for other in ROWS) else row.key.startswith(key)


def _taskset_missing() -> str:
    return "" if shutil.which("taskset") else "apt-get install util-linux"


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        # For 10,000 clients, each with a connection to an endpoint, on either side.
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, _FILES), max(hard, _FILES)))
    except (ValueError, OSError):  # Only root may ask for more than the hard limit.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _machine() -> dict[str, str]:
    cores = Cores.choose()
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    return {
        "processor": f"{model}, {os.cpu_count()} cores; proxy on {cores.proxy}, load on {cores.load}, "
        f"endpoint on {cores.endpoint}",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "TCP": congestion_control(),
        "load before": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _notes(rows: list[Row]) -> list[str]:
    peers: dict[str, Peer] = {contender.peer.label: contender.peer for row in rows for contender in row.contenders}
    return [f"{label} {peer.version()}: {peer.note}" for label, peer in peers.items() if not peer.missing()]


if __name__ == "__main__":
    sys.exit(main())
