"""`portway proxy`: becomes a proxy process, in which nothing of the operator is left."""

from __future__ import annotations

import os
import sys

import typer

__all__ = ["CONTEXT", "proxy"]

CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""How the command is registered: its arguments, `--help` too, are the proxy's own to read."""


def proxy(context: typer.Context) -> None:
    """Serve what an operator says, or one snapshot; `portway proxy --help` lists its flags."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", "portway_proxy", *context.args])  # noqa: S606 - ourselves
