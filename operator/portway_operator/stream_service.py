"""The configuration server with everything that it needs: certificates, their renewal, and who may follow."""

from __future__ import annotations

import aiohttp

from portway_operator.api_objects import ApiObjects
from portway_operator.authority_store import AuthorityKeeper
from portway_operator.publish import Publisher
from portway_operator.served_tls import CertificateFiles, ServedTls
from portway_operator.sources.connection import Connection
from portway_operator.stream_auth import Auth, CertificateAuth, PeerAuth, TokenAuth
from portway_operator.stream_server import StreamServer
from portway_operator.stream_settings import StreamSettings
from portway_operator.token_review import TokenReviews
from portway_proxy.admin_tokens import Verifier
from portway_proxy.tasks import Tasks

__all__ = ["StreamService"]


class StreamService:
    """Serves what `publisher` publishes, from `start` to `close`.

    `connection` is how tokens are reviewed and the authority is kept; a Unix socket, or certificates from files with
    `mtls`, need none. `port` is the real one after `start`.
    """

    def __init__(self, publisher: Publisher, settings: StreamSettings, connection: Connection | None = None) -> None:
        """Take the settings; raises `ValueError` with a sentence for the user when they cannot work."""
        fault = settings.fault()
        if not fault and connection is None and _needs_api(settings):
            fault = "The configuration server needs an API server."
        if fault:
            raise ValueError(fault)
        self.port = settings.port
        self._publisher = publisher
        self._settings = settings
        self._connection = connection
        self._tasks = Tasks()
        self._session: aiohttp.ClientSession | None = None
        self._server: StreamServer | None = None

    async def start(self, verifier: Verifier | None = None) -> None:
        """Listen; until the first certificate is there, handshakes fail. Raises `OSError` and `ValueError`.

        `verifier` knows whose tokens let them see proxies' pages; without it, proxies are not told.
        """
        settings = self._settings
        if settings.socket is not None:
            self._server = StreamServer(self._publisher, PeerAuth(settings.uids), verifier)
            await self._server.listen_unix(settings.socket)
            return
        if _needs_api(settings) and self._connection is not None:
            self._session = self._connection.session()
        try:
            self._server = StreamServer(self._publisher, self._auth(), verifier)
            context = None if settings.plain else self._tls().front
            self.port = await self._server.listen(settings.address, settings.port, context)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End every stream and stop listening."""
        await self._tasks.close()
        if self._server is not None:
            await self._server.close()
        if self._session is not None:
            await self._session.close()

    def _auth(self) -> Auth:
        settings = self._settings
        if settings.auth == "mtls":
            return CertificateAuth(settings.client_names)
        return TokenAuth(TokenReviews(self._api(), settings.audience), settings.accounts)

    def _tls(self) -> ServedTls:
        settings = self._settings
        served = ServedTls(verify_clients=settings.auth == "mtls")
        if settings.files is not None:
            files = CertificateFiles(served, settings.files.certificate, settings.files.key, settings.files.clients)
            files.load()
            self._tasks.spawn(files.run(), "certificate files")
        elif settings.kept is not None:
            keeper = AuthorityKeeper(self._api(), settings.kept, served, settings.hosts)
            self._tasks.spawn(keeper.run(), "authority")
        return served

    def _api(self) -> ApiObjects:
        assert self._session is not None and self._connection is not None  # noqa: S101, PT018 - `_needs_api` said so
        return ApiObjects(self._session, self._connection)


def _needs_api(settings: StreamSettings) -> bool:
    """Return whether tokens are to be reviewed, or an authority kept."""
    if settings.socket is not None:
        return False
    return settings.auth == "token" or (not settings.plain and settings.files is None)
