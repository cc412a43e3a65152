"""Reads and writes single objects of the Kubernetes API: the few that are Portway's own."""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
import msgspec

from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, refusal

__all__ = ["ApiObjects", "ApiUnavailable", "Conflict", "Raw"]

Raw = dict[str, object]


class ApiUnavailable(Exception):
    """The API server did not do what was asked: it is away, refuses, or answers with what is no object."""


class Conflict(ApiUnavailable):
    """Somebody else was faster: the object exists already, or has changed since it was read."""


class ApiObjects:
    """One session's requests for single objects; every method raises `ApiUnavailable` when there is no answer."""

    def __init__(self, session: aiohttp.ClientSession, connection: Connection) -> None:
        self._session = session
        self._connection = connection

    async def get(self, path: str) -> Raw | None:
        """Return the object at `path`, or None when there is none."""
        try:
            return await self._ask("GET", path, None)
        except _Missing:
            return None

    async def create(self, path: str, raw: Mapping[str, object]) -> Raw:
        """Create an object in the collection at `path` and return it as stored; raises `Conflict` when it exists."""
        return await self._ask("POST", path, raw)

    async def replace(self, path: str, raw: Mapping[str, object]) -> Raw:
        """Replace the object at `path` and return it as stored.

        Raises `Conflict` when it is no more the version that `raw` says.
        """
        return await self._ask("PUT", path, raw)

    async def _ask(self, method: str, path: str, raw: Mapping[str, object] | None) -> Raw:
        url = self._connection.url(path)
        body = None if raw is None else msgspec.json.encode(raw)
        try:
            async with self._session.request(method, url, data=body, headers=_JSON) as response:
                if response.status not in (200, 201):
                    raise await refusal(response)
                return msgspec.json.decode(await response.read(), type=Raw)
        except ApiRefused as error:
            raise _REFUSALS.get(error.status, ApiUnavailable)(f"{method} {path}: {error}") from None
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            raise ApiUnavailable(f"{method} {path}: {str(error) or type(error).__name__}") from None


class _Missing(ApiUnavailable):
    """There is no such object."""


_JSON = {"Content-Type": "application/json"}
_REFUSALS: dict[int, type[ApiUnavailable]] = {404: _Missing, 409: Conflict}
