"""`portway operator`: a cluster in, configuration for proxies and statuses out."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Collection
from contextlib import AbstractContextManager, AsyncExitStack, suppress
from typing import Final, Self

from prometheus_client import CollectorRegistry

from portway_operator import collector
from portway_operator.admin_review import ADMIN_AUDIENCE, ReviewedTokens
from portway_operator.admission import Admission
from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.applied import Applied
from portway_operator.compile import Compiled
from portway_operator.compile.classes import Classes
from portway_operator.compile.named import Named, named_objects
from portway_operator.events import Events
from portway_operator.expose import Expose
from portway_operator.fleet import Fleet
from portway_operator.health import Health
from portway_operator.heartbeat import Heartbeat
from portway_operator.lanes import steer
from portway_operator.leader import Leader
from portway_operator.leases import LeaseApi
from portway_operator.objects import Ingress, Kind
from portway_operator.operator_metrics import OperatorMetrics, Parts
from portway_operator.operator_settings import OperatorSettings
from portway_operator.pods import Pods
from portway_operator.public_addresses import FixedAddresses, NodeAddresses, PublicAddresses, ServiceAddresses
from portway_operator.publish import Proxy, Publisher
from portway_operator.rebuild import Rebuild, Update
from portway_operator.rejections import exclude_rejected
from portway_operator.serving import Answer, Question, Serving
from portway_operator.sources.connection import Connection
from portway_operator.sources.kube import Change, KubeSource
from portway_operator.sources.resources import Target
from portway_operator.status import Status
from portway_operator.store import ObjectStore
from portway_operator.stream_service import StreamService
from portway_operator.token_review import TokenReviews
from portway_operator.webhook import Webhook
from portway_proxy.admin_access import Access, AccessRules
from portway_proxy.history import Step
from portway_proxy.history_pages import Chronicle
from portway_proxy.signals import ENDING, heard
from portway_proxy.snapshot import Problem
from portway_proxy.tasks import Tasks

__all__ = ["OperatorApp"]

_log = logging.getLogger(__name__)

_SILENT: Final = 60.0  # kopf's thread gives a sign of life each second, and starts kopf again within ten.
_NAMED: Final = 5.0  # Seconds to wait for the Secrets that annotations name, before the first compile.
_CLEARING: Final = 10.0  # Seconds to empty the statuses when the last pod ends.


class OperatorApp:
    """One replica of the operator, from `start` to `close`; made inside of the running loop.

    `health_port`, `stream_port` and `webhook_port` (0 for none) are the real ones after `start`.
    """

    def __init__(self, connection: Connection, settings: OperatorSettings) -> None:
        """Put the parts together; raises `ValueError` with a sentence for the user when they cannot work."""
        self.health_port, self.webhook_port = settings.health_port, 0
        self.publisher, self.applied_objects = Publisher(), Applied()
        self.store, self.history = ObjectStore(), Chronicle()
        self._settings = settings
        self._tasks, self._writing = Tasks(), Tasks()
        self._exits = AsyncExitStack()
        self._stopping = asyncio.Event()
        self._stream = StreamService(self.publisher, settings.stream, connection)
        self._session = connection.session()
        self._exits.push_async_callback(self._session.close)
        self._api = api = ApiObjects(self._session, connection)
        pods = settings.pods
        self._pods = Pods(api, pods.namespace)
        self.rebuild = Rebuild(self.store, settings.compile, self._publish, self._settled)
        self._admission = Admission(self.store, settings.compile)
        self._steer = steer(self.rebuild)
        self.source = KubeSource(connection, self.store, self._changed, settings.scope)
        identity = f"{pods.name}_{uuid.uuid4()}"
        self.leader = Leader(
            LeaseApi(api, pods.namespace, settings.election), identity, self._leadership_changed, settings.terms
        )
        self._status = self._status_writer(api)
        self._expose = self._exposer(api)
        self._events = Events(api, self.leader, self.store, identity)
        self._heartbeat = Heartbeat()
        self._metrics = OperatorMetrics(Parts(self.source, self.publisher, self.leader, self._heartbeat, api))
        self._serving = Serving(self.store, self.applied_objects, self.publisher, self._pods, pods.proxies)
        self.fleet = Fleet(self.publisher, pods.name)
        self._reviewed = ReviewedTokens(TokenReviews(api, ADMIN_AUDIENCE), api) if settings.admin.review else None
        self._health = Health(self, Access(AccessRules.of(settings.admin, self._reviewed)))
        self._webhook = Webhook(self._admission, self._reads, self.source.listed.is_set, self._metrics.reviewed)

    def foreign_rules(self) -> list[Problem]:
        """Return a finding for each host that is left to other controllers."""
        classes = Classes(self.store.ingress_classes.values(), self._settings.compile)
        return list(classes.foreign_rules(self.store.ingresses.values()))

    # --- life

    async def start(self) -> Self:
        """Listen, and begin to follow the cluster; returns at once. Raises `OSError` and `ValueError`."""
        settings = self._settings
        try:
            self.health_port = await self._health.start(settings.health_address, settings.health_port)
            await self._stream.start(self._reviewed)
            if settings.webhook is not None:
                self.webhook_port = await self._webhook.start(settings.webhook, self._api)
        except BaseException:
            await self.close()
            raise
        self._say_where()
        self.publisher.on_rejection.append(exclude_rejected(self.store, self.rebuild.poke_for))
        self.publisher.on_ack.append(self._acknowledged)
        self._tasks.spawn(self._heartbeat.run(), "heartbeat")
        self._tasks.spawn(self.rebuild.run(), "rebuild")
        self._tasks.spawn(self._begin(), "first lists")
        self._writing.spawn(self.leader.run(), "leader")
        self._writing.spawn(self._events.run(), "events")
        if self._status is not None:
            self._writing.spawn(self._status.run(), "status")
        if self._expose is not None:
            self._writing.spawn(self._expose.run(), "own Service")
        self.source.start()
        return self

    @property
    def stream_port(self) -> int:
        """Return the port that proxies follow us by."""
        return self._stream.port

    def heeding_signals(self) -> AbstractContextManager[None]:
        """Return a context in which SIGINT and SIGTERM end it; it begins before `start`."""
        return heard(dict.fromkeys(ENDING, self._stopping.set))

    async def run_until_stopped(self) -> None:
        """Serve until a signal."""
        try:
            await self._stopping.wait()
            _log.info("stopping")
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the Lease back, let the proxies follow another replica, and end everything."""
        self._stopping.set()
        await self._writing.close()
        await self._clear_statuses()
        await self.leader.release()
        await self._webhook.close()
        await self._stream.close()
        await self._tasks.close()
        await self.source.stop()
        await self._health.close()
        await self.history.close()
        await self._exits.aclose()

    # --- what the health server asks for

    @property
    def registry(self) -> CollectorRegistry:
        """Return the metrics."""
        return self._metrics.registry

    @property
    def lag(self) -> float:
        """Return how late our loop was at worst in the last minute, in seconds."""
        return self._heartbeat.lag

    @property
    def busy(self) -> float:
        """Return how late it was at worst by its own work, in seconds."""
        return self._heartbeat.busy

    def ailing(self) -> str:
        """Return why this process should be started anew: kopf's thread hangs. Our own loop lives, or could not say."""
        silent = time.monotonic() - self.source.heartbeat
        return f"kopf gave no sign of life for {silent:.0f} s" if silent > _SILENT else ""

    def unready(self) -> str:
        """Return why proxies should not follow: we are ending, or the cluster is not known yet.

        Once it is, an API server that is away changes nothing: what was published last is served on.
        """
        if self._stopping.is_set():
            return "stopping"
        if not self.source.listed.is_set():
            return "\n".join(["the cluster is not known yet", *self.source.troubles()])
        return "" if self.publisher.version else "nothing was published yet"

    async def applied(self, question: Question) -> Answer:
        """Return which proxies serve an object."""
        return await self._serving.answer(question)

    # --- what happens

    def _say_where(self) -> None:
        settings = self._settings
        _log.info("health on %s port %d", settings.health_address, self.health_port)
        if settings.stream.socket is not None:
            _log.info("stream on %s", settings.stream.socket)
        else:
            _log.info("stream on %s port %d", settings.stream.address, self._stream.port)
        if settings.webhook is not None:
            _log.info("webhook on %s port %d", settings.webhook.address, self.webhook_port)

    def _changed(self, change: Change) -> None:
        if change.kind is Kind.INGRESS:
            before, after = (one if isinstance(one, Ingress) else None for one in (change.before, change.after))
            self._admission.change(before, after)
        self._steer(change)

    async def _publish(self, update: Update) -> None:
        await self.publisher.publish(update)
        self.history.note(Step(self.publisher.version, update.snapshot, update.digest, update.delta, update.causes))

    def _reads(self, namespace: str) -> bool:
        """Return whether the Ingresses of a namespace are read."""
        namespaces = self._settings.scope.namespaces
        return not namespaces or namespace in namespaces

    async def _begin(self) -> None:
        await self.source.listed.wait()
        known = ", ".join(f"{number} {kind}" for kind, number in sorted(self.source.objects().items()))
        _log.info("the cluster is known: %s", known or "nothing that we read")
        self._admission.begin()
        self._follow(named_objects(self.store, self._settings.compile))
        with suppress(TimeoutError):
            # What asks for a password must not be closed for a moment because another operator begins.
            async with asyncio.timeout(_NAMED):
                await self.source.caught_up.wait()
        collector.settle()
        self.rebuild.ready()

    def _follow(self, named: Collection[Named]) -> None:
        self.source.follow({Target(*one) for one in named})

    def _settled(self, compiled: Compiled) -> None:
        self._follow(compiled.named)
        self._metrics.compiled(compiled, self.rebuild.compile_seconds)
        self.applied_objects.settle(compiled, self.publisher.version)
        if self._expose is not None:
            self._expose.show(compiled.snapshot.listeners, self.publisher.version)
        self._poke_status()
        self._events.show(compiled.problems)

    def _acknowledged(self, proxy: Proxy) -> None:
        if self.applied_objects.acknowledge(proxy.version):
            self._poke_status()
        if self._expose is not None:
            self._expose.acknowledge(proxy.version)

    def _leadership_changed(self) -> None:
        self._poke_status()
        if self._expose is not None:
            self._expose.poke()
        self._events.poke()

    def _poke_status(self) -> None:
        if self._status is not None:
            self._status.poke()

    def _status_writer(self, api: ApiObjects) -> Status | None:
        """Return what writes statuses; None when none are to be written, or nobody could know what."""
        chosen, pods = self._settings.status, self._settings.pods
        addresses: PublicAddresses
        if chosen.service is not None:
            addresses = ServiceAddresses(self.store.services, *chosen.service)
        elif chosen.addresses:
            addresses = FixedAddresses(chosen.addresses)
        elif pods.proxies:
            addresses = NodeAddresses(self._pods, pods.proxies, internal=chosen.internal)
        else:
            return None
        return Status(api, self.leader, addresses, self.store, self.applied_objects) if chosen.write else None

    def _exposer(self, api: ApiObjects) -> Expose | None:
        """Return what writes the ports of the Service before the proxies, if the settings name one."""
        own = self._settings.expose
        return None if own is None else Expose(api, self.leader, self.store.services, own)

    async def _clear_statuses(self) -> None:
        """Empty the statuses when no pod of ours remains that could serve or take over."""
        chosen, pods = self._settings.status, self._settings.pods
        known = pods.operators and pods.proxies
        if self._status is None or not (chosen.clear and known and self.leader.leading):
            return
        try:
            async with asyncio.timeout(_CLEARING):
                found = [*await self._pods.find(pods.operators), *await self._pods.find(pods.proxies)]
                if not any(pod.name != pods.name and not pod.leaving for pod in found):
                    await self._status.clear()
        except (ApiUnavailable, TimeoutError) as error:
            _log.warning("the statuses stay as they are: %s", str(error) or "no answer in time")
