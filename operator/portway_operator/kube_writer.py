"""Single requests of ours to the Kubernetes API: what the leader writes, and the few objects that are read by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

import aiohttp
import msgspec
from aiohttp import hdrs

from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, refusal

__all__ = ["ApiTrouble", "Json", "KubeWriter"]

Json: TypeAlias = dict[str, object]
"""An object of the API as it travels."""

_SECONDS = 5.0
_MERGE = "application/merge-patch+json"

_objects = msgspec.json.Decoder(dict[str, object])


class ApiTrouble(Exception):
    """The API server did not do as asked; `status` is 0 when there was no answer at all."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    @property
    def passing(self) -> bool:
        """Return whether the very same request may succeed later: no answer, too many requests, a server's fault."""
        return self.status in (0, 401, 403, 408, 429) or self.status >= 500


class KubeWriter:
    """Sends one request after the other's answer or beside it; made inside of the running loop.

    `errors` counts failures by status, or by the kind of failure; `written` the requests that changed something.
    """

    def __init__(self, connection: Connection, seconds: float = _SECONDS) -> None:
        self.errors: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self._connection = connection
        self._session = connection.session()
        self._timeout = aiohttp.ClientTimeout(total=seconds)

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Json:
        """Return an object or a list. Raises `ApiTrouble`, as all of these do."""
        return await self._ask(hdrs.METH_GET, path, None, query=query)

    async def create(self, path: str, body: Json) -> Json:
        """Create an object in the collection `path`; return it as it is now."""
        return await self._ask(hdrs.METH_POST, path, body)

    async def replace(self, path: str, body: Json) -> Json:
        """Replace an object, if it still has the version that `body` says; return it as it is now."""
        return await self._ask(hdrs.METH_PUT, path, body)

    async def merge(self, path: str, body: Json) -> Json:
        """Apply a JSON merge patch (RFC 7386) to an object; return it as it is now."""
        return await self._ask(hdrs.METH_PATCH, path, body, media=_MERGE)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Json | None,
        *,
        media: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> Json:
        data = None if body is None else msgspec.json.encode(body)
        fields = {} if data is None else {hdrs.CONTENT_TYPE: media}
        url = self._connection.url(path)
        try:
            async with self._session.request(
                method, url, data=data, headers=fields, params=query, timeout=self._timeout
            ) as response:
                if not response.ok:
                    raise await refusal(response)
                answer = _objects.decode(await response.read())
        except ApiRefused as error:
            self.errors[str(error.status)] += 1
            raise ApiTrouble(error.status, str(error)) from None
        except (TimeoutError, aiohttp.ClientError, OSError, msgspec.MsgspecError) as error:
            self.errors[type(error).__name__] += 1
            raise ApiTrouble(0, f"{type(error).__name__}: {error}".rstrip(": ")) from None
        if body is not None:
            self.written[path.rpartition("/")[2] if method == hdrs.METH_POST else _kind(path)] += 1
        return answer


def _kind(path: str) -> str:
    """Return `ingresses/status` for `.../ingresses/NAME/status`, and `leases` for `.../leases/NAME`."""
    parts = path.split("/")
    return f"{parts[-3]}/status" if parts[-1] == "status" else parts[-2]
