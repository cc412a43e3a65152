"""kopf's settings for an operator that only reads, and reads a lot."""

from __future__ import annotations

import logging

import kopf

from portway_operator.sources.backoff import EndlessBackoff

__all__ = ["quieten", "read_only_settings"]


class _NoDiffBase(kopf.DiffBaseStorage):
    """Keeps no last-seen state on objects: kopf would copy each object five times an event for it."""

    def build(self, **_: object) -> kopf.BodyEssence:
        return {}

    def fetch(self, **_: object) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: object) -> None:
        """Store nothing."""


class _NoProgress(kopf.ProgressStorage):
    """Keeps no progress of handlers on objects: ours are done when they return."""

    def fetch(self, **_: object) -> kopf.ProgressRecord | None:
        return None

    def store(self, **_: object) -> None:
        """Store nothing."""

    def purge(self, **_: object) -> None:
        """Purge nothing."""

    def touch(self, **_: object) -> None:
        """Touch nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def read_only_settings() -> kopf.OperatorSettings:
    """Return fresh settings; an operator writes into its own."""
    settings = kopf.OperatorSettings()
    # No peering objects: replicas all watch, and a Lease of ours says who writes.
    settings.peering.standalone = True
    # No watch on namespaces and custom resource definitions: less to be allowed, and our kinds are built in.
    settings.scanning.disabled = True
    # No Events from log lines.
    settings.posting.enabled = False
    # kopf lists nothing itself: it asks for a watch with the initial objects, which `KopfThread` answers.
    settings.watching.initial_streaming = True
    # Counts from the request, lists and an outage included; `read_watch` finds a silent connection long before.
    settings.watching.inactivity_timeout = 900
    settings.watching.reconnect_backoff = 0.1
    # A worker task per object lives this long after an event: 5 s would mean 16,000 tasks at a start.
    settings.queueing.idle_timeout = 0.05
    settings.networking.connect_timeout = 5
    settings.networking.request_timeout = 60
    # Its own list of pauses ends after a minute, and then kopf.
    settings.networking.error_backoffs = EndlessBackoff()
    # No SIGKILL for the thread that it runs in.
    settings.process.ultimate_exiting_timeout = None
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.persistence.progress_storage = _NoProgress()
    # kopf removes a finalizer that it takes for a left-over of its own; by default that is every kopf operator's.
    settings.persistence.finalizer = "portway.dev/never-set"
    return settings


def quieten() -> None:
    """Keep kopf's log to what an operator's user can act on."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # It warns that it gets no signals outside of the main thread; that is how it is meant to run here.
    logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
