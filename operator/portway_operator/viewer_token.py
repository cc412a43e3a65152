"""Gets a token that an operator takes, for whoever may make tokens of the service account that looks at it."""

from __future__ import annotations

from typing import Final

import aiohttp
import msgspec

from portway_operator.admin_review import ADMIN_AUDIENCE
from portway_operator.sources.connection import Connection
from portway_operator.sources.listing import ApiRefused, refusal

__all__ = ["NoViewerToken", "ViewerTokens"]

_SECONDS: Final = 600  # The least that the API server takes.


class NoViewerToken(Exception):
    """No token can be had; the message is for the user."""


class _Status(msgspec.Struct, frozen=True):
    token: str


class _TokenRequest(msgspec.Struct, frozen=True):
    status: _Status


class ViewerTokens:
    """Short-lived tokens of the service account `name`, which are good for an operator's pages and for nothing else."""

    def __init__(self, session: aiohttp.ClientSession, connection: Connection, namespace: str, name: str) -> None:
        self._session = session
        self._url = connection.url(f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token")
        self._account = f"{namespace}/{name}"

    async def request(self) -> str:
        """Return a token; raises `NoViewerToken`."""
        asked = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"audiences": [ADMIN_AUDIENCE], "expirationSeconds": _SECONDS},
        }
        try:
            async with self._session.post(self._url, json=asked) as response:
                if response.status not in (200, 201):
                    raise await refusal(response)
                return msgspec.json.decode(await response.read(), type=_TokenRequest).status.token
        except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError) as error:
            raise NoViewerToken(
                f"The operator wants a token, and none can be made of the account {self._account}: {error}. "
                "Be allowed to create serviceaccounts/token of it, or show one with --admin-token-file."
            ) from None
