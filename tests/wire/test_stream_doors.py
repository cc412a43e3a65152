"""Who may follow, and whom a proxy trusts: tokens, certificates and sockets, on real connections."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from eventually import eventually
from own_api import ACCOUNT, OwnApi
from portway_operator.authority import Authority, Pair
from portway_operator.authority_store import KeptNames
from portway_operator.publish import Publisher
from portway_operator.rebuild import Update
from portway_operator.stream_auth import PeerAuth, TokenAuth
from portway_operator.stream_server import StreamServer
from portway_operator.stream_service import StreamService
from portway_operator.stream_settings import StreamSettings, TlsFiles
from portway_operator.token_review import TokenReviews
from portway_proxy import codec
from portway_proxy.dial import Address, Credentials
from portway_proxy.snapshot import Snapshot
from wire.streams import Cluster, Operator, following, operator, until_served

OTHER = "system:serviceaccount:shop:default"


@pytest.fixture
async def op(shared: Cluster) -> AsyncIterator[Operator]:
    async with operator(shared) as op:
        await op.publish(Snapshot())
        yield op


async def answer(
    op: Operator, shared: Cluster, token: str | None, query: str = f"node=a&schema={codec.SCHEMA}"
) -> tuple[int, str]:
    """Return status and reason of a request for the stream, and for an acknowledgement alike."""
    fields = {} if token is None else {"Authorization": f"Bearer {token}"}
    context = shared.credentials().context()
    async with aiohttp.ClientSession(headers=fields) as session:
        url = f"https://127.0.0.1:{op.port}/v1"
        async with session.get(f"{url}/stream?{query}", ssl=context) as response:
            status, line = response.status, (await response.content.readline()).decode()
        if status in (401, 503):
            async with session.post(f"{url}/ack", data=b"{}", ssl=context) as response:
                assert (response.status, await response.text()) == (status, line)
    return status, line


async def test_a_token_for_us_of_the_proxies_account_opens_the_stream(op: Operator, shared: Cluster) -> None:
    assert (await answer(op, shared, shared.api.issue()))[0] == 200


@pytest.mark.parametrize(
    ("issue", "status", "reason"),
    [
        (lambda api: api.issue(seconds=-1.0), 401, "expired"),
        (lambda api: api.issue(ACCOUNT, "vault"), 401, "not for the audience portway-config"),
        (lambda api: api.issue(known=False), 401, "does not know the token"),
        (lambda api: api.issue(OTHER), 403, "no account of our proxies"),
    ],
    ids=["expired", "another audience", "signed by another", "another account"],
)
async def test_no_other_token_does(
    op: Operator, shared: Cluster, issue: Callable[[OwnApi], str], status: int, reason: str
) -> None:
    answered, line = await answer(op, shared, issue(shared.api))
    assert answered == status
    assert reason in line
    assert not op.publisher.proxies


@pytest.mark.parametrize("token", [None, "", "x", "a.b.c", "a" * 7000, "e30.e30.e30", "Basic"])
async def test_what_is_no_token_is_refused_without_asking_the_api_server(
    op: Operator, shared: Cluster, token: str | None
) -> None:
    assert (await answer(op, shared, token))[0] == 401
    assert shared.api.reviews == 0


async def test_a_token_is_reviewed_once_and_not_for_each_request(op: Operator, shared: Cluster) -> None:
    token = shared.api.issue()
    for _ in range(5):
        assert (await answer(op, shared, token))[0] == 200
    assert shared.api.reviews == 1
    bad = shared.api.issue(known=False)
    for _ in range(5):
        assert (await answer(op, shared, bad))[0] == 401
    assert shared.api.reviews == 2


async def test_a_verdict_is_forgotten_within_a_minute(shared: Cluster) -> None:
    now = datetime.now(UTC).timestamp()
    reviews = TokenReviews(shared.objects(), clock=lambda: now)
    token = shared.api.issue()
    assert (await reviews.review(token)).account == ACCOUNT
    shared.api.revoke(token)
    assert (await reviews.review(token)).account == ACCOUNT
    now += 61
    auth = TokenAuth(reviews, [ACCOUNT])
    async with operator(shared, auth) as op:
        assert (await answer(op, shared, token))[0] == 401


async def test_while_the_api_server_is_away_strangers_wait_and_who_is_known_goes_on(
    op: Operator, shared: Cluster
) -> None:
    known, new = shared.api.issue(), shared.api.issue()
    assert (await answer(op, shared, known))[0] == 200
    await shared.api.stop()
    assert (await answer(op, shared, known))[0] == 200
    assert (await answer(op, shared, new))[0] == 503


async def test_a_token_that_is_bound_to_a_pod_speaks_for_that_pod_alone(op: Operator, shared: Cluster) -> None:
    token = shared.api.issue(pod="proxy-7")
    assert (await answer(op, shared, token, f"node=proxy-7&schema={codec.SCHEMA}"))[0] == 200
    status, line = await answer(op, shared, token, f"node=proxy-8&schema={codec.SCHEMA}")
    assert status == 403
    assert "it cannot speak for proxy-8" in line


async def test_a_stream_ends_with_its_token_and_goes_on_with_the_next(
    op: Operator, shared: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    first = shared.api.issue(seconds=1.5)
    shared.token_file.write_text(first)
    async with following(shared.credentials(), op.address) as proxy:
        await op.applied()
        shared.token_file.write_text(shared.api.issue())
        await eventually(lambda: op.publisher.counts.streams == 2)
        await eventually(lambda: not proxy.stale)
        assert op.publisher.counts.snapshots == 1
    assert first not in caplog.text
    assert "Bearer" not in caplog.text


async def test_a_proxy_with_a_bad_token_serves_on_and_says_why_once(
    op: Operator, shared: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    shared.token_file.write_text(shared.api.issue(known=False))
    async with following(shared.credentials(), op.address) as proxy:
        await eventually(lambda: "401 the API server does not know the token" in caplog.text)
        shared.token_file.write_text(shared.api.issue())
        await until_served(proxy)
    assert caplog.text.count("no operator to follow") == 1


async def test_an_operator_of_another_authority_is_not_followed(
    op: Operator, shared: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = tmp_path / "stranger.crt"
    stranger.write_bytes(Authority.create(datetime.now(UTC)).bundle)
    async with following(Credentials(stranger, shared.token_file), op.address) as proxy:
        await eventually(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        assert proxy.snapshot is None
        # Until the file names the right one: it is read for every connection.
        stranger.write_bytes(shared.authority.bundle)
        await until_served(proxy)


async def test_an_operator_under_another_name_is_not_followed(
    op: Operator, shared: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    op.tls.serve(shared.authority.issue(["elsewhere.example"], datetime.now(UTC)))
    async with following(shared.credentials(), op.address) as proxy:
        await eventually(lambda: "IP address mismatch" in caplog.text)
        assert proxy.snapshot is None
        op.tls.serve(shared.authority.issue(["127.0.0.1"], datetime.now(UTC)))
        await until_served(proxy)


async def test_an_expired_certificate_of_the_operator_is_refused(
    op: Operator, shared: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    op.tls.serve(shared.authority.issue(["127.0.0.1"], datetime.now(UTC) - timedelta(days=2)))
    async with following(shared.credentials(), op.address) as proxy:
        await eventually(lambda: "certificate has expired" in caplog.text)
        assert proxy.snapshot is None


async def test_tls_older_than_1_3_is_refused(op: Operator, shared: Cluster) -> None:
    context = shared.credentials().context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", op.port, ssl=context)


# --- client certificates


def write(directory: Path, name: str, pair: Pair) -> tuple[Path, Path]:
    paths = directory / f"{name}.crt", directory / f"{name}.key"
    for path, data in zip(paths, (pair.certificate, pair.key), strict=True):
        path.write_bytes(data)
    return paths


async def published() -> Publisher:
    publisher = Publisher()
    await publisher.publish(Update(Snapshot(), codec.digest(Snapshot())))
    return publisher


@pytest.fixture
async def mutual(shared: Cluster, tmp_path: Path) -> AsyncIterator[tuple[Publisher, Address]]:
    """An operator that wants client certificates, with its own in files."""
    publisher = await published()
    paths = write(tmp_path, "operator", shared.authority.issue(["127.0.0.1"], datetime.now(UTC)))
    files = TlsFiles(*paths, shared.ca_file)
    service = StreamService(publisher, StreamSettings(address="127.0.0.1", port=0, auth="mtls", files=files))
    await service.start()
    yield publisher, Address("https", "127.0.0.1", service.port)
    await service.close()


async def test_a_client_certificate_for_a_proxy_opens_the_stream(
    mutual: tuple[Publisher, Address], shared: Cluster, tmp_path: Path
) -> None:
    paths = write(tmp_path, "proxy", shared.authority.issue(["portway-proxy"], datetime.now(UTC)))
    async with following(Credentials(shared.ca_file, None, paths), mutual[1]) as proxy:
        await until_served(proxy)


async def test_a_client_certificate_for_anybody_else_does_not(
    mutual: tuple[Publisher, Address], shared: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write(tmp_path, "proxy", shared.authority.issue(["somebody"], datetime.now(UTC)))
    async with following(Credentials(shared.ca_file, None, paths), mutual[1]):
        await eventually(lambda: "403 the certificate is for none of portway-proxy" in caplog.text)
    assert not mutual[0].proxies


@pytest.mark.parametrize("authority", ["none", "another"])
async def test_without_a_certificate_of_the_authority_there_is_no_connection(
    mutual: tuple[Publisher, Address], shared: Cluster, tmp_path: Path, authority: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Authority.create(datetime.now(UTC))
    paths = write(tmp_path, "proxy", stranger.issue(["portway-proxy"], datetime.now(UTC)))
    shown = paths if authority == "another" else None
    async with following(Credentials(shared.ca_file, None, shown), mutual[1]):
        await eventually(lambda: "no operator to follow" in caplog.text)
    assert not mutual[0].proxies


async def test_the_operators_own_authority_serves_both_ends(shared: Cluster, tmp_path: Path) -> None:
    publisher = await published()
    kept = KeptNames("portway", client_secret="portway-proxy-tls")
    settings = StreamSettings(address="127.0.0.1", port=0, auth="mtls", kept=kept, hosts=("127.0.0.1",))
    service = StreamService(publisher, settings, shared.api.connection)
    await service.start()
    try:
        path = f"{kept.secrets()}/portway-proxy-tls"
        await eventually(lambda: path in shared.api.objects)
        found = shared.mounted(path, tmp_path)
        credentials = Credentials(found["ca.crt"], None, (found["tls.crt"], found["tls.key"]))
        async with following(credentials, Address("https", "127.0.0.1", service.port)) as proxy:
            await until_served(proxy)
    finally:
        await service.close()


# --- a socket in the same pod


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cfg.sock"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_a_socket_needs_neither_tls_nor_token(path: Path) -> None:
    publisher = await published()
    service = StreamService(publisher, StreamSettings(socket=path))
    await service.start()
    assert mode(path) == 0o660
    async with following(Credentials(), Address("unix", path=str(path))) as proxy:
        await until_served(proxy)
        assert publisher.behind(1) == []
    await service.close()


async def test_a_process_of_another_user_may_not_follow(path: Path) -> None:
    server = StreamServer(await published(), PeerAuth([os.getuid() + 1]))
    await server.listen_unix(path)
    connector = aiohttp.UnixConnector(str(path))
    url = f"http://operator/v1/stream?node=a&schema={codec.SCHEMA}"
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
        assert response.status == 403
        assert f"processes of user {os.getuid()} may not follow" in await response.text()
    await server.close()


async def test_an_operator_takes_the_place_of_a_dead_ones_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server = StreamServer(await published(), PeerAuth())
    await server.listen_unix(path)
    async with following(Credentials(), Address("unix", path=str(path))) as proxy:
        await until_served(proxy)
    await server.close()


@pytest.fixture
def precious(path: Path) -> Path:
    path.write_text("precious")
    return path


async def test_what_is_no_socket_is_left_alone(precious: Path) -> None:
    server = StreamServer(Publisher(), PeerAuth())
    with pytest.raises(OSError, match="in use"):
        await server.listen_unix(precious)
    await server.close()
    assert mode(precious) != 0o660
