"""The authority in the cluster: made once however many replicas there are, renewed in time, and known to proxies."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web

from eventually import eventually
from own_api import OwnApi, Raw, serving
from portway_operator import authority_store
from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.authority import Authority, BadAuthority, Pair
from portway_operator.authority_store import AuthorityKeeper, KeptNames
from portway_operator.served_tls import ServedTls

NAMES = KeptNames("portway", client_secret="portway-proxy-tls")
SECRET = f"{NAMES.secrets()}/portway-authority"
BUNDLE = f"{NAMES.config_maps()}/portway-ca"
CLIENT = f"{NAMES.secrets()}/portway-proxy-tls"
DAY = timedelta(days=1)


class Time:
    """The time of day, which tests set."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
async def api() -> AsyncIterator[OwnApi]:
    async with serving() as api:
        yield api


@pytest.fixture
async def objects(api: OwnApi) -> AsyncIterator[ApiObjects]:
    async with api.connection.session() as session:
        yield ApiObjects(session, api.connection)


@pytest.fixture
def time() -> Time:
    return Time()


def keeper(
    objects: ApiObjects, time: Time, served: ServedTls | None = None, names: KeptNames = NAMES
) -> AuthorityKeeper:
    return AuthorityKeeper(objects, names, served or ServedTls(), ("127.0.0.1",), time)


def data(api: OwnApi, path: str) -> dict[str, bytes]:
    found: dict[str, str] = api.objects[path]["data"]
    return {name: base64.b64decode(value) for name, value in found.items()}


def bundle(api: OwnApi) -> bytes:
    text: str = api.objects[BUNDLE]["data"]["ca.crt"]
    return text.encode()


def writes(api: OwnApi) -> list[tuple[str, str]]:
    return [request for request in api.requests if request[0] != "GET"]


async def test_where_there_is_nothing_everything_is_made(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    authority = await keeper(objects, time).refresh()
    assert Authority.of_data(data(api, SECRET)) == authority
    assert bundle(api) == authority.bundle
    assert b"PRIVATE KEY" not in bundle(api)
    assert set(data(api, CLIENT)) == {"tls.crt", "tls.key", "ca.crt"}


async def test_nothing_is_written_that_is_as_it_should_be(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    await keeper(objects, time).refresh()
    api.requests.clear()
    await keeper(objects, time).refresh()
    assert writes(api) == []


async def test_replicas_that_start_together_agree_on_one(api: OwnApi, time: Time) -> None:
    async def replica() -> Authority:
        async with api.connection.session() as session:
            return await keeper(ApiObjects(session, api.connection), time).refresh()

    found = await asyncio.gather(*(replica() for _ in range(8)))
    assert len({authority.bundle for authority in found}) == 1
    assert bundle(api) == found[0].bundle


async def test_empty_objects_of_the_chart_are_filled_and_keep_their_labels(
    api: OwnApi, objects: ApiObjects, time: Time
) -> None:
    """So the operator needs no right to create: only to get and update three names."""
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    for path, kind in ((SECRET, "Secret"), (BUNDLE, "ConfigMap"), (CLIENT, "Secret")):
        made: Raw = {
            "metadata": {"name": path.rpartition("/")[2], "resourceVersion": "1", "labels": labels},
            "kind": kind,
        }
        api.objects[path] = made
    await keeper(objects, time).refresh()
    assert {method for method, _ in writes(api)} == {"PUT"}
    assert all(found["metadata"]["labels"] == labels for found in api.objects.values())
    assert Authority.of_data(data(api, SECRET)) is not None


WEBHOOKS = KeptNames("portway", webhooks="portway")
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/portway"


async def test_the_api_server_is_told_whom_a_webhook_is_trusted_by_and_the_rest_stays(
    api: OwnApi, objects: ApiObjects, time: Time
) -> None:
    service = {"namespace": "portway", "name": "portway-admission", "path": "/ingresses"}
    hooks = [{"name": name, "failurePolicy": "Fail", "clientConfig": {"service": service}} for name in ("a.b", "c.d")]
    meta = {"name": "portway", "resourceVersion": "1", "labels": {"team": "edge"}}
    api.objects[CONFIGURATION] = {"metadata": meta, "webhooks": hooks}
    authority = await keeper(objects, time, names=WEBHOOKS).refresh()
    found = api.objects[CONFIGURATION]
    trusted = base64.b64encode(authority.bundle).decode()
    expected = [hook | {"clientConfig": {"service": service, "caBundle": trusted}} for hook in hooks]
    assert found["webhooks"] == expected
    assert found["metadata"]["labels"] == {"team": "edge"}
    api.requests.clear()
    await keeper(objects, time, names=WEBHOOKS).refresh()
    assert writes(api) == []


async def test_a_configuration_that_is_missing_leaves_the_certificate_served(
    api: OwnApi, objects: ApiObjects, time: Time
) -> None:
    served = ServedTls()
    with pytest.raises(ApiUnavailable, match="no ValidatingWebhookConfiguration portway"):
        await keeper(objects, time, served, WEBHOOKS).refresh()
    assert b"BEGIN CERTIFICATE" in bundle(api)


async def test_it_is_renewed_in_time_and_all_follow(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    first = await keeper(objects, time).refresh()
    time.now += 61 * DAY
    announced = await keeper(objects, time).refresh()
    assert announced.current == first.current
    assert bundle(api) == announced.bundle != first.bundle
    time.now += DAY + timedelta(minutes=1)
    taken = await keeper(objects, time).refresh()
    assert taken.current == announced.next
    assert bundle(api) == taken.bundle


async def test_the_proxies_certificate_is_renewed_at_half_of_its_life(
    api: OwnApi, objects: ApiObjects, time: Time
) -> None:
    await keeper(objects, time).refresh()
    before = data(api, CLIENT)
    time.now += timedelta(hours=11)
    await keeper(objects, time).refresh()
    assert data(api, CLIENT) == before
    time.now += timedelta(hours=2)
    await keeper(objects, time).refresh()
    assert data(api, CLIENT)["tls.crt"] != before["tls.crt"]


async def test_without_client_certificates_none_is_made(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    await keeper(objects, time, names=KeptNames("portway")).refresh()
    assert CLIENT not in api.objects


async def test_a_secret_of_somebody_else_is_never_overwritten(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    for junk in ("anVuaw==", "%%%"):
        made: Raw = {"metadata": {"name": "portway-authority", "resourceVersion": "1"}, "data": {"tls.crt": junk}}
        api.objects[SECRET] = made
        with pytest.raises(BadAuthority):
            await keeper(objects, time).refresh()
    assert writes(api) == []


async def test_a_secret_that_always_changes_is_given_up(api: OwnApi, objects: ApiObjects, time: Time) -> None:
    def busy(request: web.Request) -> web.Response | None:
        return web.json_response({"message": "no"}, status=409) if request.method == "POST" else None

    api.fault = busy
    with pytest.raises(ApiUnavailable, match="faster than it can be read"):
        await keeper(objects, time).refresh()


async def test_while_the_api_server_is_away_the_known_authority_signs_on(
    api: OwnApi, objects: ApiObjects, time: Time, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(authority_store, "_LOOK", 0.05)
    monkeypatch.setattr(authority_store, "_AGAIN", 0.01)
    served = Shown()
    running = asyncio.get_running_loop().create_task(keeper(objects, time, served).run())
    await eventually(lambda: served.count >= 1)
    await api.stop()
    await eventually(lambda: "cannot be looked after now" in caplog.text)
    count = served.count
    await eventually(lambda: served.count >= count + 2)
    running.cancel()
    assert "PRIVATE" not in caplog.text


async def test_an_operator_that_starts_without_the_api_server_makes_up_for_it(
    api: OwnApi, objects: ApiObjects, time: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authority_store, "_AGAIN", 0.01)
    await api.stop()
    served = Shown()
    running = asyncio.get_running_loop().create_task(keeper(objects, time, served).run())
    await asyncio.sleep(0.05)
    assert served.count == 0
    await api.start()
    await eventually(lambda: served.count == 1)
    running.cancel()


class Shown(ServedTls):
    """Counts what it is told to serve."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def serve(self, pair: Pair, clients: bytes = b"") -> None:
        super().serve(pair, clients)
        self.count += 1


def test_a_context_serves_what_it_was_told_last() -> None:
    assert ServedTls().front.minimum_version is ssl.TLSVersion.TLSv1_3
