"""Who a request is taken to come from, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portway_proxy.explain.explanation import Stage, StageName
from portway_proxy.explain.question import STRANGER
from portway_proxy.trust import Belief

if TYPE_CHECKING:
    from portway_proxy.explain.question import Question
    from portway_proxy.l7.exchange import Exchange
    from portway_proxy.l7.identity import Trusted

__all__ = ["client_stage"]


def client_stage(trusted: Trusted, question: Question, exchange: Exchange | None) -> Stage:
    """Return who the request of `question` comes from, and how; without an exchange nobody has asked for anything."""
    peer = question.client
    address = peer if exchange is None else exchange.peer.decode()
    why = _who(trusted, question, address)
    if exchange is not None and exchange.secure is not question.secure:
        why += f"; its request counts as one {'with' if exchange.secure else 'without'} TLS, as it says"
    if peer == STRANGER:
        why += "; an address that is nobody's, as none is given"
    return Stage(StageName.CLIENT, address, why)


def _who(trusted: Trusted, question: Question, address: str) -> str:
    peer, trust = question.client, trusted.trust
    if trusted.believes(peer):
        if address != peer:
            return f"{peer} is trusted, and says so by {trust.field}"
        return f"{peer} is trusted, and its {trust.field} names nobody else"
    if trusted.announces(peer):
        return f"{peer} is trusted to say by the PROXY protocol whom it brings; here it brings itself"
    said = [
        name for name, _ in question.fields if name.lower() in (trust.field.lower(), "x-forwarded-for", "forwarded")
    ]
    if said:
        why = "nobody is trusted" if not trusted.networks else f"{peer} is in no network that is trusted"
        if trusted.networks and trust.belief is Belief.NOTHING:
            why = "nothing is believed of what requests say"
        return f"it speaks for itself: {why}, so that its {', '.join(said)} does not count"
    return "it speaks for itself"
