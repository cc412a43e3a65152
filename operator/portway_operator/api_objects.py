"""Reads and writes single objects of the Kubernetes API: Portway's own, and what the leader writes into others'."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec
from aiohttp import hdrs

from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, refusal

__all__ = ["ApiObjects", "ApiUnavailable", "Conflict", "Missing", "Raw"]

Raw = dict[str, object]
"""An object as it travels."""

_SECONDS: Final = 5.0
_JSON: Final = "application/json"
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML.
_PASSING: Final = frozenset({0, 401, 403, 408, 429})


class ApiUnavailable(Exception):
    """The API server did not do what was asked: it is away, refuses, or answers with what is no object.

    `status` is that of its answer, 0 without one.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Return whether the very same request may succeed later: the object is not to blame."""
        return self.status in _PASSING or self.status >= 500


class Conflict(ApiUnavailable):
    """Somebody else was faster: the object exists already, or has changed since it was read."""


class Missing(ApiUnavailable):
    """There is no such object, or no such namespace for it."""


_REFUSALS: Final[dict[int, type[ApiUnavailable]]] = {404: Missing, 409: Conflict}


class ApiObjects:
    """One session's requests for single objects; every method raises `ApiUnavailable` when there is no answer.

    A request gets `seconds`. `errors` counts failures by the answer's status or the kind of failure, `written` by the
    resource (`ingresses/status`) what was created or changed.
    """

    def __init__(self, session: aiohttp.ClientSession, connection: Connection, seconds: float = _SECONDS) -> None:
        self.errors: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self._session = session
        self._connection = connection
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Raw | None:
        """Return the object (or the list) at `path`, or None when there is none."""
        try:
            return await self._ask(hdrs.METH_GET, path, None, query=query)
        except Missing:
            return None

    async def create(self, path: str, raw: Mapping[str, object]) -> Raw:
        """Create an object in the collection at `path` and return it as stored; raises `Conflict` when it exists."""
        created = await self._ask(hdrs.METH_POST, path, raw)
        self.written[path.rpartition("/")[2]] += 1
        return created

    async def replace(self, path: str, raw: Mapping[str, object]) -> Raw:
        """Replace the object at `path` and return it as stored.

        Raises `Conflict` when it is no more the version that `raw` says, and `Missing`.
        """
        replaced = await self._ask(hdrs.METH_PUT, path, raw)
        self.written[_resource(path)] += 1
        return replaced

    async def merge(self, path: str, patch: Mapping[str, object]) -> Raw:
        """Apply a JSON merge patch (RFC 7386) to the object at `path` and return it as stored.

        Raises `Conflict` when the patch names another uid than the object has, and `Missing`.
        """
        merged = await self._ask(hdrs.METH_PATCH, path, patch, media=_MERGE)
        self.written[_resource(path)] += 1
        return merged

    async def apply(self, path: str, raw: Mapping[str, object], manager: str) -> Raw:
        """Apply fields to the object at `path` (server-side apply, by field manager) and return it as stored.

        Raises `Conflict` when somebody else has one of the fields, or the object is not the one that `raw` names.
        """
        applied = await self._ask(hdrs.METH_PATCH, path, raw, media=_APPLY, query={"fieldManager": manager})
        self.written[_resource(path)] += 1
        return applied

    async def _ask(
        self,
        method: str,
        path: str,
        raw: Mapping[str, object] | None,
        *,
        media: str = _JSON,
        query: Mapping[str, str] | None = None,
    ) -> Raw:
        body = None if raw is None else msgspec.json.encode(raw)
        request = self._session.request(
            method,
            self._connection.url(path),
            params=query,
            data=body,
            headers={hdrs.CONTENT_TYPE: media},
            timeout=self._timeout,
        )
        try:
            async with request as response:
                if response.status not in (200, 201):
                    raise await refusal(response)
                return msgspec.json.decode(await response.read(), type=Raw)
        except ApiRefused as error:
            self.errors[str(error.status)] += 1
            raise _kind_of(error)(f"{method} {path}: {error}", error.status) from None
        except (aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            self.errors[type(error).__name__] += 1
            raise ApiUnavailable(f"{method} {path}: {str(error) or type(error).__name__}") from None


def _kind_of(error: ApiRefused) -> type[ApiUnavailable]:
    # A patch that names another uid than the object has is told so, and not with a 409.
    if error.status == 422 and "metadata.uid:" in str(error):
        return Conflict
    return _REFUSALS.get(error.status, ApiUnavailable)


def _resource(path: str) -> str:
    """Return `ingresses/status` for `.../ingresses/NAME/status`, and `leases` for `.../leases/NAME`."""
    parts = path.split("/")
    return f"{parts[-3]}/status" if parts[-1] == "status" else parts[-2]
