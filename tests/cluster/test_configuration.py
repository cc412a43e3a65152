"""Who may follow the configuration, and the operator's authority, on a real API server with the manifest's rights."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from cluster.control_plane import ControlPlane
from cluster.kubectl import Kubectl, Raw
from cluster.rights import NAMESPACE, USER
from portway_operator.api_objects import ApiObjects, Conflict
from portway_operator.authority import Authority
from portway_operator.authority_store import AuthorityKeeper, KeptNames
from portway_operator.publish import Publisher
from portway_operator.rebuild import Update
from portway_operator.served_tls import ServedTls
from portway_operator.sources.connection import Connection, TokenFile
from portway_operator.stream_service import StreamService
from portway_operator.stream_settings import StreamSettings
from portway_operator.token_review import AUDIENCE, InvalidToken, TokenReviews
from portway_proxy import codec
from portway_proxy.dial import Address, Credentials
from portway_proxy.snapshot import Snapshot
from wire.streams import following, until_served

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:portway-proxy"
KEPT = KeptNames(NAMESPACE, client_secret="portway-proxy-certificate")


@pytest.fixture
async def connection(control_plane: ControlPlane, kubectl: Kubectl, token_file: Path) -> Connection:
    """The operator's own account, with the manifest's rights."""
    token = await kubectl.token(NAMESPACE, "portway-operator")
    await asyncio.to_thread(token_file.write_text, token)
    return Connection(control_plane.url, NAMESPACE, TokenFile(token_file), control_plane.ca_file)


@pytest.fixture
async def api(connection: Connection) -> AsyncIterator[ApiObjects]:
    async with connection.session() as session:
        yield ApiObjects(session, connection)


@pytest.fixture
async def clean(kubectl: Kubectl) -> None:
    """Nothing is left of other tests' authorities."""
    for kind, name in (("Secret", KEPT.secret), ("ConfigMap", KEPT.bundle), ("Secret", KEPT.client_secret)):
        try:
            await kubectl.delete(kind, name, NAMESPACE)
        except aiohttp.ClientResponseError as error:
            if error.status != 404:
                raise


async def pod_of_a_proxy(kubectl: Kubectl, name: str) -> Raw:
    spec = {
        "nodeName": "node",
        "serviceAccountName": "portway-proxy",
        "containers": [{"name": "proxy", "image": "none"}],
    }
    meta = {"name": name, "namespace": NAMESPACE}
    return await kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


async def test_the_api_server_says_whose_a_token_is_and_which_pod_it_is_bound_to(
    api: ApiObjects, kubectl: Kubectl
) -> None:
    reviews = TokenReviews(api)
    holder = await reviews.review(await kubectl.token(NAMESPACE, "portway-proxy", AUDIENCE))
    assert (holder.account, holder.pod) == (ACCOUNT, "")
    assert 3000 < holder.expires - datetime.now(UTC).timestamp() < 4000
    pod = await pod_of_a_proxy(kubectl, "bound")
    bound = await reviews.review(await kubectl.token(NAMESPACE, "portway-proxy", AUDIENCE, pod=pod))
    assert (bound.account, bound.pod) == (ACCOUNT, "bound")


async def test_a_token_that_is_for_the_api_server_itself_is_not_for_us(api: ApiObjects, kubectl: Kubectl) -> None:
    for audiences in ((), ("vault",)):
        with pytest.raises(InvalidToken, match="not for the audience portway-config"):
            await TokenReviews(api).review(await kubectl.token(NAMESPACE, "portway-proxy", *audiences))


async def test_a_token_with_another_signature_is_nobodys(api: ApiObjects, kubectl: Kubectl) -> None:
    head, claims, signature = (await kubectl.token(NAMESPACE, "portway-proxy", AUDIENCE)).split(".")
    forged = f"{head}.{claims}.{signature[::-1]}"
    with pytest.raises(InvalidToken, match="the API server does not know the token"):
        await TokenReviews(api).review(forged)


async def test_a_token_dies_with_its_pod(api: ApiObjects, kubectl: Kubectl) -> None:
    pod = await pod_of_a_proxy(kubectl, "short-lived")
    token = await kubectl.token(NAMESPACE, "portway-proxy", AUDIENCE, pod=pod)
    assert (await TokenReviews(api).review(token)).pod == "short-lived"
    await kubectl.delete("Pod", "short-lived", NAMESPACE)
    # The API server itself remembers for ten seconds that it is good.
    async with asyncio.timeout(30):
        while await known(api, token):  # noqa: ASYNC110 - the API server tells nobody
            await asyncio.sleep(0.2)


async def known(api: ApiObjects, token: str) -> bool:
    try:
        await TokenReviews(api).review(token)
    except InvalidToken:
        return False
    return True


async def test_replicas_make_one_authority_with_no_right_but_the_manifests(
    clean: None, connection: Connection, kubectl: Kubectl, control_plane: ControlPlane
) -> None:
    async def replica() -> Authority:
        async with connection.session() as session:
            keeper = AuthorityKeeper(ApiObjects(session, connection), KEPT, ServedTls(), ("127.0.0.1",))
            return await keeper.refresh()

    found = await asyncio.gather(*(replica() for _ in range(5)))
    assert len({authority.bundle for authority in found}) == 1
    bundle = (await kubectl.get("ConfigMap", KEPT.bundle, NAMESPACE))["data"]["ca.crt"]
    assert bundle.encode() == found[0].bundle
    assert not [entry for entry in control_plane.audit(USER) if entry.code == 403]


async def test_what_changed_since_it_was_read_is_not_overwritten(
    clean: None, api: ApiObjects, kubectl: Kubectl
) -> None:
    path = f"{KEPT.config_maps()}/{KEPT.bundle}"
    made: Raw = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": KEPT.bundle}, "data": {"a": "1"}}
    read = await api.create(KEPT.config_maps(), made)
    with pytest.raises(Conflict):
        await api.create(KEPT.config_maps(), made)
    await kubectl.patch("ConfigMap", KEPT.bundle, NAMESPACE, {"data": {"a": "2"}})
    with pytest.raises(Conflict):
        await api.replace(path, {**read, "data": {"a": "3"}})
    assert (await kubectl.get("ConfigMap", KEPT.bundle, NAMESPACE))["data"] == {"a": "2"}


@pytest.mark.parametrize("auth", ["token", "mtls"])
async def test_a_proxy_follows_with_what_its_pod_is_given(
    auth: str, clean: None, connection: Connection, kubectl: Kubectl, tmp_path: Path
) -> None:
    """The whole of it: the operator makes its authority, the proxy finds it in its mounts, and follows."""
    publisher = Publisher()
    await publisher.publish(Update(Snapshot(), codec.digest(Snapshot())))
    settings = StreamSettings(address="127.0.0.1", port=0, accounts=(ACCOUNT,), hosts=("127.0.0.1",), kept=KEPT)
    if auth == "mtls":
        settings = dataclasses.replace(settings, auth="mtls")
    service = StreamService(publisher, settings, connection)
    async with AsyncExitStack() as exits:
        await service.start()
        exits.push_async_callback(service.close)
        credentials = await mounted(kubectl, tmp_path, auth)
        address = Address("https", "127.0.0.1", service.port)
        proxy = await exits.enter_async_context(following(credentials, address, node="proxy-9"))
        await until_served(proxy)
        assert set(publisher.proxies) == {"proxy-9"}


async def mounted(kubectl: Kubectl, directory: Path, auth: str) -> Credentials:
    """Return the files that the kubelet would bring into a proxy's pod, as soon as the operator made them."""
    found: dict[str, str] = {}
    async with asyncio.timeout(20):
        while not found:
            try:
                found["ca.crt"] = (await kubectl.get("ConfigMap", KEPT.bundle, NAMESPACE))["data"]["ca.crt"]
                if auth == "mtls":
                    data = (await kubectl.get("Secret", KEPT.client_secret, NAMESPACE))["data"]
                    found |= {name: base64.b64decode(data[name]).decode() for name in ("tls.crt", "tls.key")}
            except aiohttp.ClientResponseError:
                found.clear()
                await asyncio.sleep(0.05)
    found["token"] = await kubectl.token(NAMESPACE, "portway-proxy", AUDIENCE)
    for name, text in found.items():
        await asyncio.to_thread((directory / name).write_text, text)
    if auth == "mtls":
        return Credentials(directory / "ca.crt", None, (directory / "tls.crt", directory / "tls.key"))
    return Credentials(directory / "ca.crt", directory / "token")
