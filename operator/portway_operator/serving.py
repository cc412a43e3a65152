"""Answers which proxies serve an object as it is now: what `portway wait-applied` waits for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Final, Protocol

import msgspec

from portway_operator.api_objects import ApiUnavailable
from portway_operator.applied import Applied, Owned
from portway_operator.objects import Kind
from portway_operator.pods import Pod, Pods
from portway_operator.publish import Proxy
from portway_operator.store import ObjectStore

__all__ = ["Answer", "ProxyAnswer", "Question", "Serving"]

_log = logging.getLogger(__name__)

_FRESH: Final = 2.0  # Seconds for which a list of pods is good: whoever waits asks several times a second.


class Proxies(Protocol):
    """Knows how far the proxies have come; see `publish.Publisher`."""

    @property
    def proxies(self) -> Mapping[str, Proxy]:
        """The proxies that are there, by name."""


class Question(msgspec.Struct, frozen=True):
    """An object, and the least version (`resource_version`) of it that is asked for; empty for any that is known."""

    kind: Kind
    namespace: str
    name: str
    resource_version: str = ""


class ProxyAnswer(msgspec.Struct, frozen=True):
    """Whether a proxy serves the object as it is now; `reason` is a sentence when it does not."""

    name: str
    applied: bool
    reason: str = ""


class Answer(msgspec.Struct, frozen=True):
    """Whether every ready proxy serves the object as it is now; `reason` says why not, where it is no proxy's fault."""

    applied: bool
    reason: str = ""
    proxies: tuple[ProxyAnswer, ...] = ()


class Serving:
    """Compares what is known of an object with what proxies acknowledged.

    With `pods` and a `selector`, a proxy that is ready and follows no operator is found too.
    """

    def __init__(self, store: ObjectStore, applied: Applied, proxies: Proxies, pods: Pods, selector: str) -> None:
        self._store = store
        self._applied = applied
        self._proxies = proxies
        self._pods = pods
        self._selector = selector
        self._listed: tuple[float, list[Pod] | None] = (float("-inf"), None)

    async def answer(self, question: Question) -> Answer:
        """Return which proxies serve the object."""
        pods = await self._find_pods()
        # Decided without a pause from here on.
        owned = self._owned(question)
        if isinstance(owned, str):
            return Answer(applied=False, reason=owned)
        known = self._proxies.proxies
        names = set(known) if pods is None else {pod.name for pod in pods if pod.ready}
        if not names:
            return Answer(applied=False, reason="No proxy is there.")
        answers = tuple(_answer(name, known.get(name), owned.current) for name in sorted(names))
        return Answer(all(answer.applied for answer in answers), "", answers)

    def _owned(self, question: Question) -> Owned | str:
        """Return what was published of the object, or why nothing, or not all, was."""
        kind, namespace, name = question.kind, question.namespace, question.name
        shown = f"{kind} {namespace}/{name}"
        found = self._store.get(kind, namespace, name)
        if found is None:
            return f"The operator knows no {shown}."
        if _number(found.meta.resource_version) < _number(question.resource_version):
            return f"The operator has not seen this version of {shown} yet."
        if refusal := self._store.refusal(found):
            return f"{shown} is left out, because a proxy cannot apply it: {refusal}."
        owned = self._applied.get(kind, namespace, name)
        if owned is None:
            return f"{shown} is not Portway's to serve, by its class."
        if owned.object != found or owned.object.meta.uid != found.meta.uid:
            return f"{shown} as it is now is not published yet."
        return owned

    async def _find_pods(self) -> list[Pod] | None:
        """Return the proxies' pods as they were a moment ago; None when they cannot be known."""
        now = asyncio.get_running_loop().time()
        if self._selector and now > self._listed[0] + _FRESH:
            try:
                self._listed = now, await self._pods.find(self._selector)
            except ApiUnavailable as error:
                _log.info("the proxies' pods cannot be listed, those that follow count: %s", error)
                self._listed = now, None
        return self._listed[1]


def _answer(name: str, proxy: Proxy | None, version: int) -> ProxyAnswer:
    if proxy is None:
        return ProxyAnswer(name, applied=False, reason="It is ready, but follows no operator.")
    if proxy.version >= version:
        return ProxyAnswer(name, applied=True)
    if proxy.error:
        reason = f"It rejected version {proxy.rejected}: {proxy.error.rstrip('.')}."
        return ProxyAnswer(name, applied=False, reason=reason)
    serves = f"It serves version {proxy.version}" if proxy.version else "It serves a version of another operator's"
    return ProxyAnswer(name, applied=False, reason=f"{serves}, and not {version} yet.")


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
