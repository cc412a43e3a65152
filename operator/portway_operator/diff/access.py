"""Who may come by a policy, and whether that is more people than another policy lets in.

A policy lets in whom one of its ways lets in, and a way is all that it asks for at once: `satisfy any` makes a way of
each thing that is asked for. Nobody new comes when each new way asks for at least what some old way asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from portway_operator.diff.ranges import EVERYBODY, NOBODY, Ranges, admitted, within
from portway_operator.diff.side import Side, bare
from portway_proxy.discretion import discreet_url
from portway_proxy.snapshot import BasicAuth, ExternalAuth, Policy

__all__ = ["Access", "Loss"]

_SHOWN: Final = 4  # Networks that a sentence names.


_PAST: Final = {
    "asks": "asked",
    "is": "was",
    "lets": "let",
    "limits": "limited",
    "refuses": "refused",
    "sends": "sent",
    "speaks": "spoke",
    "takes": "took",
}


@dataclass(frozen=True, slots=True)
class Loss:
    """What one side does for a request's protection and another does not.

    Both go on with `it`: it `asks` (any verb in the present tense), and on the other side it does what `other` says.
    """

    kind: str
    asks: str
    other: str

    @property
    def asked(self) -> str:
        """What `asks` says, in the past tense."""
        verb, space, rest = self.asks.partition(" ")
        return f"{_PAST[verb]}{space}{rest}"

    @property
    def subject(self) -> str:
        """What it is about: the kind without its last word."""
        return self.kind.rpartition("_")[0]


class Access:
    """What a policy asks of clients on its own words: networks, a password, the word of a service."""

    __slots__ = ("_either", "_external", "_password", "_policy", "_ranges", "_side")

    def __init__(self, policy: Policy, side: Side) -> None:
        self._policy = policy
        self._side = side
        self._password = policy.basic
        self._external = policy.external
        self._either = policy.any_suffices and (policy.basic is not None or policy.external is not None)
        self._ranges: Ranges | None = None
        if policy.allow or policy.deny:
            # Who is not in `allow` is not welcome by name: only a password, or the service, lets them in.
            named = policy.allow or not self._either
            self._ranges = admitted(policy.allow, policy.deny) if named else NOBODY

    @property
    def nobody(self) -> bool:
        """Whether no client can come."""
        return all(NOBODY in way for way in self._ways())

    def losses(self, new: Access) -> Iterator[Loss]:
        """Yield what `new` does not ask for any more, if that lets anybody in who had to stay out."""
        if all(any(self._covers(way, other, new) for way in self._ways()) for other in new._ways()):
            return
        found = [*self._networks(new), *self._passwords(new), *self._services(new)]
        if not found or (new._either and not self._either):
            found.append(Loss("either_suffices", self._words(), new._words()))
        yield from found

    def _ways(self) -> list[tuple[object, ...]]:
        """Return the ways in; each is what it asks for: ranges, a password, a service."""
        asked = [one for one in (self._ranges, self._password, self._external) if one is not None]
        ways = [[one] for one in asked] if self._either else [asked]
        # Where everybody comes from is not worth asking.
        return [tuple(one for one in way if one != EVERYBODY) for way in ways]

    def _covers(self, way: tuple[object, ...], other: tuple[object, ...], new: Access) -> bool:
        """Return whether whoever comes by the way `other` of `new` could come by `way` before."""
        return NOBODY in other or all(any(self._implied(one, by, new) for by in other) for one in way)

    def _implied(self, one: object, by: object, new: Access) -> bool:
        match one, by:
            case tuple(), tuple():
                return within(by, one)
            case BasicAuth(), BasicAuth():
                return self._same_users(one, by, new)
            case ExternalAuth(), ExternalAuth():
                return _asked_of(one) == _asked_of(by)
        return False

    def _same_users(self, one: BasicAuth, by: BasicAuth, new: Access) -> bool:
        if one.credentials == by.credentials:
            return True
        old, now = self._side.credentials.get(one.credentials), new._side.credentials.get(by.credentials)
        return old is not None and now is not None and set(now.users) <= set(old.users)

    def _networks(self, new: Access) -> Iterator[Loss]:
        if self._ranges is None or self._either or self._contains(new):
            return
        kind = "networks_lost" if new._ranges is None else "networks_widened"
        yield Loss(kind, self._in_networks(), new._in_networks())

    def _contains(self, new: Access) -> bool:
        return self._ranges is not None and new._ranges is not None and within(new._ranges, self._ranges)

    def _passwords(self, new: Access) -> Iterator[Loss]:
        if self._password is None:
            return
        if new._password is None:
            yield Loss("password_lost", f"asks for a password of {self._password.credentials}", "does not")
        elif not self._same_users(self._password, new._password, new):
            asks = f"asks for a password of {self._password.credentials}"
            yield Loss("password_other", asks, f"asks for one of {new._password.credentials}")

    def _services(self, new: Access) -> Iterator[Loss]:
        if self._external is None:
            return
        asks = f"asks {_name(self._external)} whether a request may pass"
        if new._external is None:
            yield Loss("external_lost", asks, "asks nobody")
        elif _asked_of(self._external) != _asked_of(new._external):
            yield Loss("external_other", asks, f"asks {_name(new._external)}")

    def _in_networks(self) -> str:
        policy = self._policy
        parts = [f"only from {_some(policy.allow)}"] if policy.allow else []
        parts += [f"none from {_some(policy.deny)}"] if policy.deny else []
        return f"lets clients in {', '.join(parts) or 'from anywhere'}"

    def _words(self) -> str:
        parts = [self._in_networks()] if self._ranges is not None else []
        parts += [f"a password of {self._password.credentials}"] if self._password else []
        parts += [f"the word of {_name(self._external)}"] if self._external else []
        return f"asks for {'one' if self._either else 'all'} of: {'; '.join(parts)}" if parts else "asks for nothing"


def _asked_of(external: ExternalAuth) -> tuple[str, str, str, str]:
    """Return what tells services apart: who is asked, and what."""
    return bare(external.upstream), external.target, external.host, external.method


def _name(external: ExternalAuth) -> str:
    return discreet_url(f"{bare(external.upstream) or external.host}{external.target}")


def _some(networks: tuple[str, ...]) -> str:
    more = f" and {len(networks) - _SHOWN} more" if len(networks) > _SHOWN else ""
    return ", ".join(networks[:_SHOWN]) + more
