"""The samples of all workers as one exposition: added up, never falling when a worker dies, rendered for a scrape."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

from portway_proxy.ingress_nginx import INGRESS_NGINX_FAMILIES
from portway_proxy.metrics import FAMILIES, Family, Kind, Sample, unpack

__all__ = ["CONTENT_TYPE", "Totals", "render", "shrink"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Series: TypeAlias = tuple[str, tuple[str, ...]]

_ALL: Final = (*FAMILIES, *INGRESS_NGINX_FAMILIES)
_THEIRS: Final = frozenset(family.name for family in INGRESS_NGINX_FAMILIES)
_GROWING: Final = frozenset(family.name for family in _ALL if family.kind is not Kind.GAUGE)
_ESCAPED: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_ESCAPED_DOC: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

# Series that workers leave behind. Those of each are bounded, but the hosts of a year are more than those of today.
_MOST_PAST: Final = 100_000


class Totals:
    """The last samples of each worker, and what the counters of those that died had reached.

    They are kept compressed (`shrink`): those of 10,000 routes are 40 MB as objects, 6 as they came, half of one so.
    """

    def __init__(self) -> None:
        self._last: dict[int, bytes] = {}
        self._past: dict[_Series, Sample] = {}

    def report(self, worker: int, samples: bytes) -> None:
        """Take what `shrink` made of the samples of the living `worker` (its process id) in place of earlier ones."""
        self._last[worker] = samples

    def retire(self, worker: int) -> None:
        """Keep what the counters of `worker` had reached; its gauges end with it."""
        last = self._last.pop(worker, b"")
        growing = [sample for sample in _grown(last) if sample.name in _GROWING] if last else []
        _add(self._past, growing)
        for series in list(self._past)[: max(0, len(self._past) - _MOST_PAST)]:
            del self._past[series]

    def samples(self) -> list[Sample]:
        """Return the sums over all workers, one sample for each series."""
        sums = self._past.copy()
        for samples in self._last.values():
            _add(sums, _grown(samples))
        return list(sums.values())


def shrink(packed: bytes) -> bytes:
    """Return packed samples compressed, which other threads need not wait for."""
    return zlib.compress(packed, 1)


def _grown(shrunk: bytes) -> list[Sample]:
    return unpack(zlib.decompress(shrunk))


def render(samples: Sequence[Sample]) -> bytes:
    """Return the samples in Prometheus' text format, with HELP and TYPE of every family.

    The families of ingress-nginx's names are left out when there is nothing of them. Raises `KeyError` for a sample of
    no family.
    """
    families = FAMILIES if _THEIRS.isdisjoint(sample.name for sample in samples) else _ALL
    lines: dict[str, list[str]] = {}
    for family in families:
        doc = family.doc.translate(_ESCAPED_DOC)
        lines[family.name] = [f"# HELP {family.name} {doc}\n# TYPE {family.name} {family.kind}\n"]
    known = {family.name: family for family in families}
    for sample in samples:
        lines[sample.name].extend(_lines(known[sample.name], sample))
    return "".join(line for of_family in lines.values() for line in of_family).encode()


def _add(sums: dict[_Series, Sample], samples: Iterable[Sample]) -> None:
    for sample in samples:
        series = (sample.name, sample.labels)
        before = sums.get(series)
        if before is not None:
            counts = tuple(map(sum, zip(before.counts, sample.counts, strict=True)))
            sample = Sample(sample.name, sample.labels, before.value + sample.value, counts)  # noqa: PLW2901 - the sum
        sums[series] = sample


def _lines(family: Family, sample: Sample) -> Iterator[str]:
    labels = ",".join(
        f'{name}="{value.translate(_ESCAPED)}"' for name, value in zip(family.labels, sample.labels, strict=True)
    )
    if family.kind is not Kind.HISTOGRAM:
        yield f"{family.name}{{{labels}}} {_number(sample)}\n" if labels else f"{family.name} {_number(sample)}\n"
        return
    name, comma = family.name, "," if labels else ""
    reached = list(accumulate(sample.counts))
    for bound, count in zip((*map(repr, family.bounds), "+Inf"), reached, strict=True):
        yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {count}\n'
    of = f"{{{labels}}}" if labels else ""
    yield f"{name}_sum{of} {_number(sample)}\n{name}_count{of} {reached[-1]}\n"


def _number(sample: Sample) -> str:
    value = sample.value
    return str(int(value)) if value == int(value) else repr(value)
