"""What services said of requests, and for how long it counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from portway_proxy.l7.lookup import field

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from portway_proxy.l7.response import ResponseHead

__all__ = ["Key", "Verdict", "Verdicts", "verdict_of"]

Key: TypeAlias = tuple[bytes, str, str, bytes]
"""The host, the route's path and its kind, and what tells clients apart."""

_REMEMBERED: Final = 10_000  # Verdicts of each kind; nginx's own zone of 10 MiB holds 80,000.
_UNSTORABLE: Final = (b"no-store", b"no-cache", b"private", b"max-age=0")


class Verdict(NamedTuple):
    """What a service said of a request.

    `copied` are lines for the endpoint, `cookies` and `challenge` lines for the client; each ends in CRLF. `storable`:
    the service does not keep others from being told the same.
    """

    status: int
    copied: bytes
    cookies: bytes
    challenge: bytes
    storable: bool

    @property
    def passes(self) -> bool:
        """Whether the request may go on."""
        return 200 <= self.status < 300


def verdict_of(answer: ResponseHead, copied: Collection[str]) -> Verdict | None:
    """Return the verdict that a service's answer is, or None when it is none; `copied` are names in lower-case."""
    status = answer.status
    if not 200 <= status < 300 and status not in (401, 403):
        return None
    lines = answer.lines
    cookies = _called(lines, {"set-cookie"})
    control = (field(lines, b"cache-control") or b"").lower()
    storable = not cookies and not any(word in control for word in _UNSTORABLE)
    challenge = _called(lines, {"www-authenticate"}) if status == 401 else b""
    return Verdict(status, _called(lines, copied), cookies, challenge, storable)


def _called(lines: Iterable[bytes], names: Collection[str]) -> bytes:
    return b"".join(line for line in lines if line[: line.find(b":")].lower().decode("latin-1") in names)


class Verdicts:
    """The verdicts that one policy remembers, which go on from snapshot to snapshot.

    `durations` are seconds by status; 0 is any. Who is kept out, which anybody can be, never pushes out who passes.
    """

    __slots__ = ("_bad", "_good", "_seconds")

    def __init__(self, durations: Iterable[tuple[int, float]]) -> None:
        self._seconds = dict(durations)
        self._good: dict[Key, tuple[float, Verdict]] = {}
        self._bad: dict[Key, tuple[float, Verdict]] = {}

    def recall(self, key: Key, now: float) -> Verdict | None:
        """Return the verdict that still counts, or None."""
        found = self._good.get(key) or self._bad.get(key)
        return found[1] if found is not None and now < found[0] else None

    def note(self, key: Key, verdict: Verdict, now: float) -> None:
        """Remember a verdict, if its status is one that is remembered."""
        seconds = self._seconds.get(verdict.status, self._seconds.get(0, 0.0))
        if not verdict.storable or not seconds:
            return
        verdicts, others = (self._good, self._bad) if verdict.passes else (self._bad, self._good)
        others.pop(key, None)
        if len(verdicts) >= _REMEMBERED and key not in verdicts:
            for old in list(verdicts)[: _REMEMBERED // 2]:
                del verdicts[old]
        verdicts[key] = (now + seconds, verdict)
