"""Keeps the operator's authority in the cluster: one Secret that all replicas share, and for proxies a ConfigMap.

The Secret and the ConfigMap may exist, empty, before the operator does: then it needs no right to create any. The API
server is told to trust it by a ValidatingWebhookConfiguration, where the admission webhook's certificate is its.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from portway_operator.api_objects import ApiObjects, ApiUnavailable, Conflict, Raw
from portway_operator.authority import Authority, BadAuthority, Pair
from portway_operator.served_tls import ServedTls

__all__ = ["AuthorityKeeper", "KeptNames", "now_utc"]

_log = logging.getLogger(__name__)

_ATTEMPTS: Final = 10
_LOOK: Final = 3600.0  # Seconds between two looks at what is due; leaves live for a day.
_AGAIN: Final = 5.0
_BUNDLE: Final = "ca.crt"
_WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


def now_utc() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class KeptNames:
    """The names of the objects, all in `namespace`; `client_secret` is for the proxies, empty when they need none.

    `webhooks` is the ValidatingWebhookConfiguration that is to trust the authority, empty for none.
    """

    namespace: str
    secret: str = "portway-authority"  # noqa: S105 - an object's name
    bundle: str = "portway-ca"
    client_secret: str = ""
    clients: tuple[str, ...] = ("portway-proxy",)
    webhooks: str = ""

    def secrets(self) -> str:
        """Return the path of the namespace's Secrets."""
        return f"/api/v1/namespaces/{self.namespace}/secrets"

    def config_maps(self) -> str:
        """Return the path of the namespace's ConfigMaps."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps"


class AuthorityKeeper:
    """Has `served` show certificates of the shared authority for `hosts`, and has proxies trust that."""

    def __init__(
        self,
        api: ApiObjects,
        names: KeptNames,
        served: ServedTls,
        hosts: tuple[str, ...],
        clock: Callable[[], datetime] = now_utc,
    ) -> None:
        self._api = api
        self._names = names
        self._served = served
        self._hosts = hosts
        self._clock = clock
        self._known: Authority | None = None

    async def refresh(self) -> Authority:
        """Bring everything to what it should be now: authority, bundle and certificates.

        Raises `ApiUnavailable`, and `BadAuthority` when the Secret holds what is none.
        """
        authority = await self._authority()
        await self._publish_bundle(authority.bundle)
        if self._names.client_secret:
            await self._issue_client(authority)
        self._serve(authority)
        if self._names.webhooks:
            await self._tell_api_server(authority.bundle)
        return authority

    async def run(self) -> None:
        """Refresh now and every hour, for ever; while that fails, the authority that is known signs on."""
        again = _AGAIN
        while True:
            try:
                self._known = await self.refresh()
            except (ApiUnavailable, BadAuthority) as error:
                _log.error("the authority cannot be looked after now: %s", error)
                pause = again = min(again * 2, _LOOK)
                if self._known is not None:
                    self._serve(self._known)
            else:
                pause, again = _LOOK, _AGAIN
            await asyncio.sleep(pause * random.uniform(0.75, 1.0))  # noqa: S311 - jitter, no secret

    def _serve(self, authority: Authority) -> None:
        self._served.serve(authority.issue(self._hosts, self._clock()), authority.bundle)

    async def _authority(self) -> Authority:
        """Return the authority that all replicas agree on, made or advanced when that is due."""
        path = f"{self._names.secrets()}/{self._names.secret}"
        for _ in range(_ATTEMPTS):
            raw = await self._api.get(path)
            before = Authority.of_data(_decoded(raw)) if raw is not None else None
            now = self._clock()
            after = before.advance(now) if before is not None else Authority.create(now)
            if before is not None and after.data() == before.data():
                return after
            try:
                await self._write(self._names.secrets(), self._names.secret, raw, _secret(after.data()))
            except Conflict:
                continue  # Another replica was faster: what it made is as good.
            _log.info(
                "the authority in the Secret %s is %s", self._names.secret, "new" if before is None else "renewed"
            )
            return after
        raise ApiUnavailable(f"the Secret {self._names.secret} changes faster than it can be read")

    async def _publish_bundle(self, bundle: bytes) -> None:
        path = f"{self._names.config_maps()}/{self._names.bundle}"
        raw = await self._api.get(path)
        wanted = {_BUNDLE: bundle.decode("ascii")}
        if raw is None or raw.get("data") != wanted:
            content: Raw = {"apiVersion": "v1", "kind": "ConfigMap", "data": wanted}
            await self._write_any(self._names.config_maps(), self._names.bundle, raw, content)

    async def _issue_client(self, authority: Authority) -> None:
        """Renew the proxies' own certificate when half of its life is over."""
        path = f"{self._names.secrets()}/{self._names.client_secret}"
        raw = await self._api.get(path)
        now = self._clock()
        if raw is not None and _fresh(_decoded(raw), authority, now):
            return
        pair = authority.issue(self._names.clients, now)
        data = {"tls.crt": pair.certificate, "tls.key": pair.key, _BUNDLE: authority.bundle}
        await self._write_any(self._names.secrets(), self._names.client_secret, raw, _secret(data))

    async def _tell_api_server(self, bundle: bytes) -> None:
        """Have every webhook of the configuration be trusted by the bundle."""
        raw = await self._api.get(f"{_WEBHOOKS}/{self._names.webhooks}")
        if raw is None:
            raise ApiUnavailable(f"there is no ValidatingWebhookConfiguration {self._names.webhooks}")
        trusted = {"caBundle": base64.b64encode(bundle).decode("ascii")}
        before = raw.get("webhooks")
        found = before if isinstance(before, list) else []
        hooks = [hook | {"clientConfig": hook["clientConfig"] | trusted} for hook in found]
        if hooks != found:
            await self._write_any(_WEBHOOKS, self._names.webhooks, raw, {**raw, "webhooks": hooks})

    async def _write_any(self, collection: str, name: str, before: Raw | None, content: Raw) -> None:
        try:
            await self._write(collection, name, before, content)
        except Conflict:
            _log.debug("another replica wrote %s first", name)

    async def _write(self, collection: str, name: str, before: Raw | None, content: Raw) -> None:
        """Create the object, or replace what was read before; raises `Conflict` when somebody else did."""
        if before is None:
            await self._api.create(collection, content | {"metadata": {"name": name}})
            return
        # With its metadata: its version makes it a compare and swap, and labels are the chart's.
        kept = {key: value for key, value in before.items() if key in ("metadata", "type", "immutable")}
        await self._api.replace(f"{collection}/{name}", content | kept)


def _secret(data: Mapping[str, bytes]) -> Raw:
    encoded = {name: base64.b64encode(value).decode("ascii") for name, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": encoded}


def _decoded(raw: Raw) -> dict[str, bytes]:
    data = raw.get("data")
    if not isinstance(data, dict):
        return {}
    try:
        return {str(name): base64.b64decode(str(value), validate=True) for name, value in data.items()}
    except binascii.Error:
        raise BadAuthority("its data is no base64") from None


def _fresh(data: Mapping[str, bytes], authority: Authority, now: datetime) -> bool:
    if data.get(_BUNDLE) != authority.bundle:
        return False
    try:
        certificate, _ = Pair(data.get("tls.crt", b""), data.get("tls.key", b"")).load()
    except BadAuthority:
        return False
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now < begin + (end - begin) / 2
