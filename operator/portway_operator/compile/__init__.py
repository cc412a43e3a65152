"""The compile: a store of Kubernetes objects to the snapshot that proxies serve. Pure, and it never raises.

Ingresses are taken from the oldest to the youngest, each by itself: a bad one costs itself only. Equal objects compile
to an equal snapshot, in whatever order they came.
"""

from __future__ import annotations

from portway_operator.compile.snapshot import Compiled, compile_snapshot, compile_upstream

__all__ = ["Compiled", "compile_snapshot", "compile_upstream"]
