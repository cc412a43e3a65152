"""What is bad costs itself only: `portway operator` and `portway proxy` serve all else on, and owners are told."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import msgspec
from cryptography import x509

from certs import issue
from cluster.kubectl import Kubectl, Raw
from cluster.operating import ingress, service, tls_secret
from cluster.pod_network import Pod
from cluster.replicas import PROXY_TOKENS, Fleet, Load, Replica, RunningProxy, shop, until
from cluster.rights import NAMESPACE
from eventually import eventually
from portway_proxy.codec import SCHEMA
from portway_proxy.stream import ACK_PATH, STREAM_PATH, Ack, Hello, Lines, SnapshotMessage, Verdict, decode
from portway_proxy.tasks import Tasks

HERE = ("--publish-status-address", "192.0.2.1")


async def start(ships: Fleet) -> tuple[Replica, RunningProxy]:
    operator = await ships.operator(*HERE)
    return operator, await ships.proxy(operator)


async def told(kubectl: Kubectl, namespace: str, name: str, reason: str) -> bool:
    """Return whether the owner of an Ingress was told."""
    events = await kubectl.list("Event", namespace)
    return any((each["involvedObject"]["name"], each["reason"]) == (name, reason) for each in events)


async def test_one_broken_ingress_of_a_hundred_costs_itself_only(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    def site(number: int, path: str) -> Raw:
        return ingress(namespace, f"site-{number}", host=f"{number}.{namespace}.example", path=path)

    await kubectl.apply(service(namespace), *(site(number, "/old") for number in range(100)))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    _, proxy = await start(ships)
    await asyncio.gather(*(proxy.answers(f"{number}.{namespace}.example", "a", "/old") for number in range(100)))

    changed = [site(number, "/new") for number in range(100)]
    changed[50]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["name"] = "missing"
    async with Load(proxy, f"0.{namespace}.example", "404").running():
        await asyncio.gather(*(kubectl.apply(each) for each in changed))
        for number in range(100):
            expected = "a" if number != 50 else "503"
            await proxy.answers(f"{number}.{namespace}.example", expected, "/new")
            assert await proxy.ask(f"{number}.{namespace}.example", "/old") == "404"
    await until(partial(told, kubectl, namespace, "site-50", "ServiceMissing"), 15, "the owner is told")
    others = [one for one in await kubectl.list("Event", namespace) if one["involvedObject"]["name"] != "site-50"]
    assert not any(one["reason"] == "ServiceMissing" for one in others), "and nobody else"


def serial(chain: bytes) -> int:
    return x509.load_pem_x509_certificate(chain).serial_number


class Handshakes:
    """New TLS connections to a proxy without a pause: how often each host showed which certificate."""

    def __init__(self, proxy: RunningProxy, *hosts: str) -> None:
        self._proxy = proxy
        self._hosts = hosts
        self.shown: Counter[tuple[str, int]] = Counter()
        self.failed: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Connect again and again until the block ends, and then fail if any connection did."""
        tasks = Tasks()
        clients = [tasks.spawn(self._connect(host), f"client of {host}") for host in self._hosts]
        try:
            yield
            assert not any(client.done() for client in clients)
        finally:
            await tasks.close()
        assert self.failed == []

    async def shows(self, host: str, number: int) -> None:
        """Wait until `host` shows the certificate with this serial number, some times from now on."""
        before = self.shown[host, number]
        await eventually(lambda: self.shown[host, number] >= before + 5, 20, f"{host} shows {number}")

    async def _connect(self, host: str) -> None:
        while True:
            try:
                number, body = await self._proxy.shake_hands(host)
            except OSError as error:
                self.failed.append(f"{host}: {error!r}")
                continue
            if body == "a":
                self.shown[host, number] += 1
            else:
                self.failed.append(f"{host}: {body}")
            await asyncio.sleep(0.01)


async def test_a_secret_that_turns_to_garbage_costs_nobody_the_last_good_certificate_and_its_owner_hears_of_it(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    good, bad = f"good.{namespace}.example", f"bad.{namespace}.example"
    pairs = {name: issue(host) for name, host in (("good", good), ("bad", bad))}
    await kubectl.apply(*(tls_secret(namespace, *pair, name) for name, pair in pairs.items()))
    await kubectl.apply(service(namespace))
    await kubectl.pod(namespace, "a", pod.address, app="web")
    _, proxy = await start(ships)
    for name, host in (("good", good), ("bad", bad)):
        made = ingress(namespace, name, host=host)
        made["spec"]["tls"] = [{"hosts": [host], "secretName": name}]
        await kubectl.apply(made)
        await proxy.answers(host, "308")

    handshakes = Handshakes(proxy, good, bad)
    last = pairs["bad"]
    async with handshakes.running():
        await handshakes.shows(good, serial(pairs["good"][0]))
        await handshakes.shows(bad, serial(last[0]))
        for chain, key, reason in (
            (b"garbage", b"garbage", "SecretMalformed"),
            (last[0], issue(bad)[1], "KeyMismatch"),
        ):
            await kubectl.apply(tls_secret(namespace, chain, key, "bad"))
            await until(partial(told, kubectl, namespace, "bad", reason), 15, "the owner is told")
            await handshakes.shows(bad, serial(last[0]))
            last = issue(bad)
            await kubectl.apply(tls_secret(namespace, *last, "bad"))
            await handshakes.shows(bad, serial(last[0]))
        await handshakes.shows(good, serial(pairs["good"][0]))
    default, _ = await proxy.shake_hands("nobody.example")
    assert {number for host, number in handshakes.shown if host == good} == {serial(pairs["good"][0])}
    assert default not in {number for _, number in handshakes.shown}, "nobody ever got the certificate of nobody"
    assert not await told(kubectl, namespace, "good", "SecretMalformed")


async def reject(ships: Fleet, operator: Replica, resource: str, reason: str) -> None:
    """Follow the operator as an older proxy does, and reject what it sends for the sake of one object."""
    context = ssl.create_default_context(cafile=await ships.authority())
    token = await ships.kubectl.token(NAMESPACE, "portway-proxy", PROXY_TOKENS)
    url, fields = f"https://127.0.0.1:{operator.stream_port}", {"Authorization": f"Bearer {token}"}
    query = {"node": "older", "schema": str(SCHEMA)}
    async with ships.client.get(url + STREAM_PATH, params=query, headers=fields, ssl=context) as stream:
        assert stream.status == 200
        lines, messages = Lines(), list[object]()
        while not (messages and isinstance(messages[-1], SnapshotMessage)):
            messages += [decode(line) for line in lines.feed(await stream.content.readany())]
        hello, sent = messages[0], messages[-1]
        assert isinstance(hello, Hello)
        assert isinstance(sent, SnapshotMessage)
        ack = Ack("older", hello.epoch, sent.v, sent.hash, Verdict.REJECTED, reason, resource)
        body = msgspec.json.encode(ack)
        async with ships.client.post(url + ACK_PATH, data=body, headers=fields, ssl=context) as answer:
            assert answer.status == 204


async def test_an_ingress_that_a_proxy_rejects_is_left_out_until_it_changes(
    ships: Fleet, kubectl: Kubectl, namespace: str, pod: Pod
) -> None:
    await shop(kubectl, namespace, pod)
    odd = f"odd.{namespace}.example"
    await kubectl.apply(ingress(namespace, "odd", host=odd))
    operator, proxy = await start(ships)
    await proxy.answers(odd, "a")
    async with Load(proxy, f"{namespace}.example", "a").running() as load:
        await reject(ships, operator, f"Ingress {namespace}/odd", f"Ingress {namespace}/odd: it is too odd")
        await proxy.answers(odd, "404")
        await until(partial(told, kubectl, namespace, "odd", "RejectedByProxy"), 15, "the owner is told")
        assert await operator.metric("rejections_total") == 1
        await kubectl.apply(ingress(namespace, "odd", host=odd, path="/new"))
        await proxy.answers(odd, "a", "/new")
        await load.more()
