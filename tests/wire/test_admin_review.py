"""Tokens that are shown to a proxy, and whether its operators say that they count: on real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from portway_proxy.admin_review import OperatorReviews
from portway_proxy.admin_tokens import TokenRefused, TokenUnknowable
from portway_proxy.dial import Credentials, Operators
from portway_proxy.stream import ShownToken
from wire.streams import Cluster, Operator

GOOD = "head.good.signature"


class Knows:
    """Knows one token, of others what the test says."""

    def __init__(self, answer: Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def verify(self, token: str) -> None:
        self.asked.append(token)
        if token != GOOD:
            raise self.answer


@pytest.fixture
def knows() -> Knows:
    return Knows(TokenRefused("It is somebody else's.", 403))


@pytest.fixture
async def op(shared: Cluster, knows: Knows) -> AsyncIterator[Operator]:
    op = Operator(shared, verifier=knows)
    await op.start()
    yield op
    await op.stop()


@pytest.fixture
async def reviews(shared: Cluster, op: Operator) -> AsyncIterator[OperatorReviews]:
    operators = Operators((op.address,), shared.credentials())
    yield OperatorReviews(operators, "a")
    await operators.close()


async def test_a_token_counts_when_an_operator_says_so_which_is_asked_once_for_a_while(
    reviews: OperatorReviews, knows: Knows
) -> None:
    for _ in range(3):
        await reviews.verify(GOOD)
    assert knows.asked == [GOOD]


@pytest.mark.parametrize("status", [401, 403])
async def test_why_it_does_not_count_is_what_the_operator_says(
    reviews: OperatorReviews, knows: Knows, status: int
) -> None:
    knows.answer = TokenRefused("It is somebody else's.", status)
    for _ in range(2):
        with pytest.raises(TokenRefused, match="somebody else's") as refused:
            await reviews.verify("head.bad.signature")
        assert refused.value.status == status
    assert len(knows.asked) == 1


@pytest.mark.parametrize("token", ["", "guess", "a.b", "a.b.c.d", "a.b.c\n", f"a.{'b' * 5000}.c", "a.\xe9.c"])
async def test_what_is_no_token_by_its_looks_is_not_asked_about(
    reviews: OperatorReviews, knows: Knows, token: str
) -> None:
    with pytest.raises(TokenRefused, match="no service account token"):
        await reviews.verify(token)
    assert knows.asked == []


async def test_an_operator_that_cannot_tell_or_is_away_is_no_verdict_and_is_asked_again(
    reviews: OperatorReviews, knows: Knows, op: Operator
) -> None:
    knows.answer = TokenUnknowable("later")
    for _ in range(2):
        with pytest.raises(TokenUnknowable):
            await reviews.verify("head.bad.signature")
    assert len(knows.asked) == 2
    await op.stop()
    with pytest.raises(TokenUnknowable):
        await reviews.verify(GOOD)
    await op.start()
    await reviews.verify(GOOD)


async def test_another_operator_is_asked_where_one_cannot_tell(shared: Cluster, op: Operator) -> None:
    older = Operator(shared)
    await older.start()
    operators = Operators((older.address, op.address), shared.credentials())
    for _ in range(4):
        await OperatorReviews(operators, "a").verify(GOOD)
    await operators.close()
    alone = Operators((older.address,), shared.credentials())
    with pytest.raises(TokenUnknowable):
        await OperatorReviews(alone, "a").verify(GOOD)
    await alone.close()
    await older.stop()


async def test_nobody_but_a_proxy_has_tokens_reviewed(shared: Cluster, op: Operator, knows: Knows) -> None:
    stranger = Operators((op.address,), Credentials(shared.ca_file))
    with pytest.raises(TokenUnknowable):
        await OperatorReviews(stranger, "a").verify(GOOD)
    await stranger.close()
    assert knows.asked == []


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'{"node": "a", "token": 1}', b'{"node": "/", "token": "a"}'])
async def test_what_is_no_question_is_refused(shared: Cluster, op: Operator, body: bytes) -> None:
    fields = {"Authorization": f"Bearer {shared.token_file.read_text()}"}
    context = shared.credentials().context()
    url = f"https://127.0.0.1:{op.port}/v1/review"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=fields, ssl=context) as response,
    ):
        assert response.status == 400


def test_a_token_that_is_asked_about_is_in_no_text() -> None:
    assert GOOD not in f"{ShownToken('a', GOOD)}{ShownToken('a', GOOD)!r}"
