from __future__ import annotations

import asyncio
import gc
import hashlib
import itertools
import random
import socket
from collections.abc import Callable, Coroutine
from typing import Final

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from eventually import eventually
from portway_proxy.clock import Clock
from portway_proxy.l4.relay import CLIENT_RESET, CLOSED, DONE, IDLE, UPSTREAM_RESET, Relay
from portway_proxy.l4.splicer import Splicer
from tcp import PATIENCE, End, descriptors, pair

LOOPS: Final = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
MEBIBYTE: Final = 1 << 20


class Scene:
    """A relay between two peers: what one sends the other gets."""

    def __init__(self, splicer: Splicer, *, start: bool = True) -> None:
        self.client, inner_client = pair()
        self.upstream, inner_upstream = pair()
        self.ended: list[Relay] = []
        self.relay = Relay(splicer, inner_client, inner_upstream, idle=3600.0, on_done=self.ended.append)
        if start:
            self.relay.start()

    async def end(self) -> str:
        """Return why the relay ended, once it has."""
        await eventually(lambda: self.ended, PATIENCE)
        assert self.ended == [self.relay]
        return self.relay.reason

    async def leave(self) -> None:
        """End both peers in order, and the relay with them."""
        self.client.finish()
        self.upstream.finish()
        assert await self.client.rest() == b""
        assert await self.upstream.rest() == b""
        assert await self.end() == DONE
        self.close()

    def close(self) -> None:
        self.client.close()
        self.upstream.close()


def pass_deadlines(clock: Clock) -> None:
    """Have a clock act on the deadlines that have passed by its `now`, and by nothing else."""
    now = clock.now
    clock.start()
    clock.stop()
    clock.now = now


async def quiet(splicer: Splicer, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the splicer sleeps while nothing happens."""
    turns = 0
    serve = Relay._serve

    def count(relay: Relay, *args: object) -> None:
        nonlocal turns
        turns += 1
        serve(relay, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Relay, "_serve", count)
        await asyncio.sleep(0.1)
    return turns <= 3


async def digest_of(end: End, choice: random.Random) -> tuple[int, str]:
    """Read slowly, in pieces of any size, until the other side ends; return how much came and its hash."""
    seen = hashlib.sha256()
    size = 0
    while part := await end.receive(choice.choice((1, 1000, 65536, MEBIBYTE))):
        seen.update(part)
        size += len(part)
        if choice.random() < 0.05:
            await asyncio.sleep(0.001)
    return size, seen.hexdigest()


async def send_all(end: End, data: bytes, choice: random.Random) -> None:
    view = memoryview(data)
    while view:
        size = choice.choice((1, 100, 65536, MEBIBYTE, 4 * MEBIBYTE))
        await end.send(bytes(view[:size]))
        view = view[size:]
    end.finish()


async def test_64_mib_pass_exactly_both_ways_at_once_to_slow_readers(splicer: Splicer) -> None:
    scene = Scene(splicer)
    choice = random.Random(4)
    up, down = (choice.randbytes(64 * MEBIBYTE) for _ in range(2))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send_all(scene.client, up, random.Random(5)))
        tasks.create_task(send_all(scene.upstream, down, random.Random(6)))
        at_upstream = tasks.create_task(digest_of(scene.upstream, random.Random(7)))
        at_client = tasks.create_task(digest_of(scene.client, random.Random(8)))
    assert at_upstream.result() == (len(up), hashlib.sha256(up).hexdigest())
    assert at_client.result() == (len(down), hashlib.sha256(down).hexdigest())
    assert await scene.end() == DONE
    assert (scene.relay.sent, scene.relay.received) == (len(up), len(down))
    scene.close()


async def test_a_client_that_sends_nothing_more_still_gets_its_answer(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.client.send(b"question")
    scene.client.finish()
    assert await scene.upstream.rest() == b"question"
    await scene.upstream.send(b"answer")
    assert await scene.client.exactly(6) == b"answer"
    assert not scene.ended
    scene.upstream.finish()
    assert await scene.client.rest() == b""
    assert await scene.end() == DONE
    scene.close()


async def test_an_upstream_that_sends_nothing_more_still_gets_the_rest(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.upstream.send(b"greeting")
    scene.upstream.finish()
    assert await scene.client.rest() == b"greeting"
    await scene.client.send(b"much more")
    assert await scene.upstream.exactly(9) == b"much more"
    assert not scene.ended
    scene.client.finish()
    assert await scene.upstream.rest() == b""
    assert await scene.end() == DONE
    scene.close()


async def test_a_reset_by_the_client_reaches_the_upstream_as_one(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.client.send(b"x")
    assert await scene.upstream.exactly(1) == b"x"
    scene.client.reset()
    with pytest.raises(ConnectionResetError):
        await scene.upstream.receive()
    assert await scene.end() == CLIENT_RESET
    scene.close()


async def test_a_reset_by_the_upstream_reaches_the_client_as_one(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.upstream.send(b"x")
    assert await scene.client.exactly(1) == b"x"
    scene.upstream.reset()
    with pytest.raises(ConnectionResetError):
        await scene.client.receive()
    assert await scene.end() == UPSTREAM_RESET
    scene.close()


async def test_a_reset_after_the_end_of_what_was_sent_is_noticed_too(splicer: Splicer) -> None:
    scene = Scene(splicer)
    scene.client.finish()
    assert await scene.upstream.rest() == b""
    scene.client.reset()
    assert await scene.end() == CLIENT_RESET
    # Linux says "broken pipe" of a reset connection whose end had been read.
    with pytest.raises(ConnectionError):
        await scene.upstream.send(b"too late")
    scene.close()


async def test_a_reset_is_noticed_while_the_other_side_takes_nothing(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.client.fill()
    scene.client.reset()
    assert await scene.end() == CLIENT_RESET
    with pytest.raises(ConnectionResetError):
        await scene.upstream.rest()
    scene.close()


async def test_a_reader_that_breaks_off_ends_a_stalled_relay(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.upstream.fill()
    scene.client.reset()
    assert await scene.end() == CLIENT_RESET
    with pytest.raises(ConnectionResetError):
        await scene.upstream.receive()
    scene.close()


async def test_an_early_answer_passes_before_the_reset_that_follows_it(splicer: Splicer) -> None:
    scene = Scene(splicer)
    await scene.client.fill()
    await scene.upstream.send(b"too large")
    # Closing with bytes unread resets, as a server does that answers without reading on.
    scene.upstream.close()
    assert await scene.end() == UPSTREAM_RESET
    assert await scene.client.exactly(9) == b"too large"
    with pytest.raises(ConnectionResetError):
        await scene.client.receive()
    scene.close()


async def test_an_answer_that_came_before_a_failed_write_passes_too(splicer: Splicer) -> None:
    scene = Scene(splicer)
    # All at once, the client first: the relay meets the reset when it writes.
    scene.client.sock.send(b"more")
    scene.upstream.sock.send(b"no")
    scene.upstream.reset()
    assert await scene.end() == UPSTREAM_RESET
    assert await scene.client.exactly(2) == b"no"
    with pytest.raises(ConnectionResetError):
        await scene.client.receive()
    scene.close()


async def test_a_stalled_relay_sleeps(splicer: Splicer, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(splicer)
    await scene.upstream.fill()
    assert await quiet(splicer, monkeypatch)
    await scene.client.fill()
    assert await quiet(splicer, monkeypatch)
    scene.relay.abort()
    scene.close()


async def test_a_half_closed_relay_sleeps(splicer: Splicer, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(splicer)
    scene.client.finish()
    assert await scene.upstream.rest() == b""
    assert await quiet(splicer, monkeypatch)
    await scene.leave()


async def test_a_relay_sleeps_with_only_bytes_for_a_slow_client_left(
    splicer: Splicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(splicer)
    scene.relay.client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    scene.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    scene.client.finish()
    assert await scene.upstream.rest() == b""
    await scene.upstream.send(bytes(100_000))
    scene.upstream.finish()
    await scene.upstream.delivered()
    # Both directions of the upstream's connection are shut: from now on epoll calls it hung up, again and again.
    await eventually(lambda: scene.relay.received)
    assert await quiet(splicer, monkeypatch)
    assert len(await scene.client.rest()) == 100_000
    assert await scene.end() == DONE
    scene.close()


async def test_an_urgent_byte_leaves_the_relay_asleep(splicer: Splicer, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(splicer)
    await scene.client.send(b"before")
    scene.client.sock.send(b"!", socket.MSG_OOB)
    assert await scene.upstream.exactly(6) == b"before"
    assert await quiet(splicer, monkeypatch)
    await scene.client.send(b"after")
    assert (await scene.upstream.exactly(5)).endswith(b"after")
    await scene.leave()


async def test_bytes_read_already_go_first_each_way(splicer: Splicer) -> None:
    scene = Scene(splicer, start=False)
    await scene.client.send(b"client")
    await scene.upstream.send(b"upstream")
    heads = [random.Random(seed).randbytes(3 * MEBIBYTE) for seed in (1, 2)]
    scene.relay.start(to_upstream=heads[0], to_client=heads[1])
    assert await scene.client.exactly(3 * MEBIBYTE + 8) == heads[1] + b"upstream"
    assert await scene.upstream.exactly(3 * MEBIBYTE + 6) == heads[0] + b"client"
    assert (scene.relay.sent, scene.relay.received) == (3 * MEBIBYTE + 6, 3 * MEBIBYTE + 8)
    await scene.leave()


async def test_sockets_of_transports_become_a_relay_by_duplicates_of_their_descriptors(splicer: Splicer) -> None:
    loop = asyncio.get_running_loop()
    (client, inner_client), (upstream, inner_upstream) = pair(), pair()
    transports = []
    sockets = []
    for inner in (inner_client, inner_upstream):
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=inner)
        transport.pause_reading()
        transports.append(transport)
        sockets.append(socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())))
    ended: list[Relay] = []
    relay = Relay(splicer, sockets[0], sockets[1], idle=3600.0, on_done=ended.append)
    relay.start()
    await client.send(b"ping")
    assert await upstream.exactly(4) == b"ping"
    await upstream.send(b"pong")
    assert await client.exactly(4) == b"pong"
    for transport in transports:
        transport.abort()
    await client.send(b"on")
    assert await upstream.exactly(2) == b"on"
    client.finish()
    upstream.finish()
    await eventually(lambda: ended)
    assert relay.reason == DONE
    assert await client.rest() == await upstream.rest() == b""
    client.close()
    upstream.close()


async def test_abort_resets_both_sides_and_is_harmless_afterwards(splicer: Splicer) -> None:
    scene = Scene(splicer)
    scene.relay.abort()
    scene.relay.abort("again")
    assert await scene.end() == CLOSED
    for end in (scene.client, scene.upstream):
        with pytest.raises(ConnectionResetError):
            await end.receive()
    scene.close()


async def test_a_relay_without_traffic_is_reset_at_its_deadline(splicer: Splicer) -> None:
    scene = Scene(splicer)
    clock = splicer.clock
    begun = clock.now
    clock.now += 1800.0
    pass_deadlines(clock)
    assert scene.relay.deadline == begun + 3601.0
    clock.now += 1801.0
    pass_deadlines(clock)
    assert await scene.end() == IDLE
    with pytest.raises(ConnectionResetError):
        await scene.client.receive()
    scene.close()


async def test_the_kernel_is_asked_to_watch_the_endpoint_of_a_relay_that_lasts(splicer: Splicer) -> None:
    scene = Scene(splicer)
    clock, sock = splicer.clock, scene.relay.upstream
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    clock.now += 10.0
    pass_deadlines(clock)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    assert not scene.ended
    await scene.leave()


@pytest.mark.parametrize("side", ["client", "upstream"])
async def test_a_byte_in_either_direction_moves_the_deadline(splicer: Splicer, side: str) -> None:
    scene = Scene(splicer)
    clock = splicer.clock
    scene.relay.deadline = clock.now
    sender, receiver = (scene.client, scene.upstream) if side == "client" else (scene.upstream, scene.client)
    await sender.send(b"x")
    assert await receiver.exactly(1) == b"x"
    clock.start()
    clock.stop()
    assert not scene.ended
    await scene.leave()


async def test_a_thousand_relays_leave_no_descriptor_and_no_pipe_behind(splicer: Splicer) -> None:
    before = descriptors()
    for _ in range(10):
        scenes = [Scene(splicer) for _ in range(100)]
        for scene in scenes:
            await scene.client.send(b"ping")
        for scene in scenes:
            assert await scene.upstream.exactly(4) == b"ping"
        for number, scene in enumerate(scenes):
            if number % 3 == 0:
                scene.client.reset()
                assert await scene.end() == CLIENT_RESET
                scene.close()
            else:
                await scene.leave()
    assert len(splicer) == 0
    splicer.pipes.close()
    assert splicer.pipes.open == 0
    assert descriptors() == before


async def test_idle_relays_hold_no_pipe(splicer: Splicer) -> None:
    scenes = [Scene(splicer) for _ in range(20)]
    for scene in scenes:
        await scene.client.send(b"x")
        assert await scene.upstream.exactly(1) == b"x"
    # One at a time had bytes in flight: one pipe serves them all.
    assert splicer.pipes.open == 1
    for scene in scenes:
        await scene.leave()


async def test_a_relay_that_ended_is_freed_without_the_garbage_collector(splicer: Splicer) -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            scene = Scene(splicer)
            await scene.leave()
            scene.ended.clear()
            del scene
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Relay)]
    finally:
        gc.enable()


async def test_a_bulk_relay_does_not_starve_another(splicer: Splicer) -> None:
    bulk, other = Scene(splicer), Scene(splicer)

    async def flood() -> None:
        while True:
            await bulk.client.send(bytes(MEBIBYTE))

    async def swallow() -> None:
        while True:
            await bulk.upstream.receive(MEBIBYTE)

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(flood()), loop.create_task(swallow())]
    await eventually(lambda: bulk.relay.sent > 8 * MEBIBYTE)
    for _ in range(20):
        before = bulk.relay.sent
        await other.client.send(b"ping")
        assert await other.upstream.exactly(4) == b"ping"
        assert bulk.relay.sent - before < 64 * MEBIBYTE
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    bulk.relay.abort()
    bulk.close()
    await other.leave()


Chunks = list[int]
chunks: st.SearchStrategy[Chunks] = st.lists(
    st.one_of(st.integers(1, 64), st.integers(1, 20_000), st.just(200_000)), max_size=12
)


@pytest.mark.parametrize("loop", LOOPS)
@settings(max_examples=25, deadline=None)
@given(up=chunks, down=chunks, reads=st.lists(st.integers(1, 10_000), max_size=6), small=st.booleans())
def test_any_chunking_arrives_as_the_same_bytes(
    loop: str, up: Chunks, down: Chunks, reads: Chunks, *, small: bool
) -> None:
    async def send(end: End, data: bytes, sizes: Chunks) -> None:
        position = 0
        for size in sizes:
            await end.send(data[position : position + size])
            position += size
            await asyncio.sleep(0)
        end.finish()

    async def receive(end: End) -> bytes:
        received = bytearray()
        sizes = itertools.cycle([*reads, 65536])
        while part := await end.receive(next(sizes)):
            received += part
        return bytes(received)

    async def body() -> None:
        running = asyncio.get_running_loop()
        splicer = Splicer(running, Clock(running))
        scene = Scene(splicer, start=False)
        if small:
            for sock in (scene.relay.client, scene.relay.upstream):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        scene.relay.start()
        data_up, data_down = random.Random(1).randbytes(sum(up)), random.Random(2).randbytes(sum(down))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send(scene.client, data_up, up))
            tasks.create_task(send(scene.upstream, data_down, down))
            at_upstream = tasks.create_task(receive(scene.upstream))
            at_client = tasks.create_task(receive(scene.client))
        assert at_upstream.result() == data_up
        assert at_client.result() == data_down
        assert await scene.end() == DONE
        assert (scene.relay.sent, scene.relay.received) == (sum(up), sum(down))
        scene.close()
        splicer.close()

    run(LOOPS[loop], body())


def run(factory: Callable[[], asyncio.AbstractEventLoop], body: Coroutine[None, None, None]) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(body)
