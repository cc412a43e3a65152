"""Finds h2spec, or builds it once as a Go module into a cache outside the clone.

`PYTHONPATH=tests python -m h2spec.binary` builds it ahead of the tests (half a minute).
"""

from __future__ import annotations

from pathlib import Path

from go_programs import build, cached, find_go

__all__ = ["find_or_build"]

_MODULE = Path(__file__).parent
_PACKAGE = "github.com/summerwind/h2spec/cmd/h2spec"


def find_or_build() -> Path:
    """Return the program; raises `go_programs.Unavailable`."""
    with cached(_MODULE) as directory:
        program = directory / "h2spec"
        if not program.is_file():
            build(find_go(), _PACKAGE, program, _MODULE)
    return program


if __name__ == "__main__":
    print(find_or_build())
