"""Whose a token is: what the API server's answers mean, and for how long they are believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
from aiohttp import web

from own_api import ACCOUNT, OwnApi, serving
from portway_operator.api_objects import ApiObjects, ApiUnavailable
from portway_operator.token_review import InvalidToken, TokenReviews


@pytest.fixture
async def api() -> AsyncIterator[OwnApi]:
    async with serving() as api:
        yield api


@pytest.fixture
async def reviews(api: OwnApi) -> AsyncIterator[TokenReviews]:
    async with api.connection.session() as session:
        yield TokenReviews(ApiObjects(session, api.connection))


def answering(status: object) -> Callable[[web.Request], web.Response]:
    return lambda _: web.json_response({"kind": "TokenReview", "status": status}, status=201)


GOOD: dict[str, object] = {"authenticated": True, "user": {"username": ACCOUNT}, "audiences": ["portway-config"]}


async def test_who_holds_a_good_token_is_who_the_api_server_says(api: OwnApi, reviews: TokenReviews) -> None:
    api.fault = answering(GOOD)
    assert (await reviews.review(api.issue("somebody else"))).account == ACCOUNT


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({**GOOD, "authenticated": False}, "does not know the token"),
        ({**GOOD, "audiences": []}, "not for the audience"),
        ({**GOOD, "audiences": ["vault"]}, "not for the audience"),
        ({"authenticated": True, "user": {"username": ACCOUNT}}, "not for the audience"),
        ({"error": "bad\nline"}, "does not know the token: bad"),
        ({}, "does not know the token"),
        (None, "does not know the token"),
        ({"authenticated": "yes"}, "the API server's answer is no TokenReview"),
        ([], "the API server's answer is no TokenReview"),
    ],
)
async def test_any_other_answer_is_a_refusal(api: OwnApi, reviews: TokenReviews, status: object, reason: str) -> None:
    api.fault = answering(status)
    with pytest.raises(InvalidToken, match=reason):
        await reviews.review(api.issue())


@pytest.mark.parametrize("code", [403, 404, 429, 500])
async def test_no_answer_is_no_verdict_and_is_asked_for_again(api: OwnApi, reviews: TokenReviews, code: int) -> None:
    """404 too: an API server whose aggregation is broken says that of everything."""
    token = api.issue()
    api.fault = lambda _: web.json_response({"message": "no"}, status=code)
    for _ in range(2):
        with pytest.raises(ApiUnavailable):
            await reviews.review(token)
    api.fault = lambda _: None
    assert (await reviews.review(token)).account == ACCOUNT


class Counting(ApiObjects):
    """Counts the questions that are asked at once."""

    running = most = 0

    async def create(self, path: str, raw: Mapping[str, object]) -> dict[str, object]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await super().create(path, raw)
        finally:
            self.running -= 1


async def test_a_flood_of_tokens_asks_a_few_questions_at_once_and_fills_no_memory(api: OwnApi) -> None:
    async with api.connection.session() as session:
        objects = Counting(session, api.connection)
        reviews = TokenReviews(objects)
        tokens = [api.issue(seconds=100 + number, known=False) for number in range(1500)]
        answers = await asyncio.gather(*map(reviews.review, tokens), return_exceptions=True)
    assert {type(answer) for answer in answers} == {InvalidToken}
    assert (api.reviews, objects.most) == (1500, 8)
    assert len(reviews._verdicts._known) <= 1024


async def test_no_message_quotes_the_token(api: OwnApi, reviews: TokenReviews) -> None:
    for token in (api.issue(known=False), api.issue(ACCOUNT, "vault"), api.issue(seconds=-1), "secret"):
        with pytest.raises(InvalidToken) as refused:
            await reviews.review(token)
        assert token not in str(refused.value)
