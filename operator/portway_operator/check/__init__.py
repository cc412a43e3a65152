"""`portway check`: what an installation would come to on Portway, and what differs from ingress-nginx. Pure values.

`judge` reads a store and returns a `Report`; `portway_operator.check_pages` shows one to people.
"""

from __future__ import annotations

from portway_operator.check.judge import adopt, judge
from portway_operator.check.report import Report, Unchecked

__all__ = ["Report", "Unchecked", "adopt", "judge"]
