"""No hostile response reaches a client as if it were whole, and none touches another client (see `hostile_answers`)."""

from __future__ import annotations

import asyncio

import pytest

from eventually import eventually
from wire.hostile_answers import ANSWERS, Answer, Seen
from wire.peers import Client, Endpoint, Message, Peer, Truncated, echoing
from wire.site import Net, everything_to


def first_hostile(answer: Answer, *, by_the_byte: bool) -> Endpoint:
    """Return an endpoint whose first connection answers with `answer`, and the others by what they are asked."""

    async def script(peer: Peer) -> None:
        if endpoint.peers[0] is not peer:
            await echoing(peer)
        await peer.request()
        if by_the_byte:
            for octet in answer.data:
                if peer.how or peer.lost:
                    return
                peer.send(bytes([octet]))
                for _ in range(3):
                    await asyncio.sleep(0)
        else:
            peer.send(answer.data)
        if answer.closes:
            peer.close()
        else:
            peer.counting = True
            await peer.end()

    endpoint = Endpoint(script)
    return endpoint


async def seen(client: Client, answer: Answer) -> tuple[list[Message], bool]:
    """Return the responses that a client gets, 1xx left out, and whether the last of them is cut off."""
    client.send(answer.method + b" /hostile HTTP/1.1\r\nHost: a\r\n\r\n")
    try:
        while (response := await client.response(answer.method)).status < 200:
            pass
    except Truncated:
        return [], True
    return [response], False


async def check(net: Net, answer: Answer, *, late: bool) -> None:
    endpoint = await net.run(first_hostile(answer, by_the_byte=late))
    site = await net.site(everything_to(endpoint.port))
    client = await net.client(site)
    responses, cut = await seen(client, answer)
    if answer.seen is Seen.CUT:
        assert (responses, cut) == ([], True)
        assert client.how == "reset"
        assert not client.received.endswith(b"0\r\n\r\n")
    else:
        [response] = responses
        if answer.seen is Seen.BAD_GATEWAY:
            assert (response.status, response.body) == (502, b"502 Bad Gateway\n")
        else:
            assert response.status in (200, 204, 304)
            assert response.body in (b"", b"said")
        if late:
            # Bytes that come behind a whole response are noticed when they come; before that nobody can know.
            await eventually(
                lambda: endpoint.peers[0].how or endpoint.peers[0].lost, what="the hostile connection ends"
            )
        # What came with it never becomes the next response, for this client or another.
        assert (await client.get("/mine")).body == b"/mine"
    other = await net.client(site)
    assert (await other.get("/benign")).body == b"/benign"
    assert b"poison" not in client.received
    assert b"poison" not in other.received
    assert b"/hostile" in endpoint.received[0]
    assert not any(b"/mine" in data or b"/benign" in data for data in endpoint.received[:1])
    await eventually(lambda: endpoint.peers[0].how or endpoint.peers[0].lost, what="the hostile connection ends")
    first, *_ = await site.lines(2 if answer.seen is Seen.CUT else 3)
    assert first["reason"] in ([""] if answer.seen is Seen.WHOLE else ["upstream_bad_response", "upstream_reset"])


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(ANSWERS) >= 120
    assert len({answer.name for answer in ANSWERS}) == len(ANSWERS)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.name)
async def test_a_hostile_response_is_refused_or_visibly_cut_off(net: Net, answer: Answer) -> None:
    await check(net, answer, late=False)


# A few are long on purpose; what is special about them is not how they arrive.
@pytest.mark.parametrize("answer", [some for some in ANSWERS if len(some.data) < 1000], ids=lambda answer: answer.name)
async def test_a_hostile_response_is_no_different_when_it_comes_by_the_byte(net: Net, answer: Answer) -> None:
    await check(net, answer, late=True)
