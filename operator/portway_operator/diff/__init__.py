"""What differs between two snapshots, as values and in forms for people and programs."""

from portway_operator.diff.compare import compare
from portway_operator.diff.findings import VERSION, Difference, Effect, Finding

__all__ = ["VERSION", "Difference", "Effect", "Finding", "compare"]
