"""The admission webhook: AdmissionReviews of Ingresses over TLS, answered from what the operator knows.

It changes nothing, asks nobody and keeps nothing, so that a stranger who calls it gains and costs little.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec
from aiohttp import hdrs, web

from portway_operator.admission import NoIngress, Verdict
from portway_operator.api_objects import ApiObjects
from portway_operator.authority_store import AuthorityKeeper
from portway_operator.operator_settings import OwnCertificate, WebhookSettings
from portway_operator.problems import Problem
from portway_operator.served_tls import CertificateFiles, ServedTls
from portway_proxy.tasks import Tasks

__all__ = ["PATH", "Judge", "Webhook"]

_log = logging.getLogger(__name__)

PATH: Final = "/ingresses"
"""What `clientConfig` of the ValidatingWebhookConfiguration names."""

_VERSION: Final = "admission.k8s.io/v1"
_BODY: Final = 3 << 20  # The API server's own limit of a request.
_BODY_SECONDS: Final = 5.0
_AT_ONCE: Final = 32  # Bodies that are being read: at most 96 MiB.
_SHUTDOWN: Final = 1.0
# kubectl shows them all, and the API server cuts them at 256 and 4096 characters.
_WARNINGS: Final = 10
_LONGEST: Final = 250
_REASONS: Final = 5


class Judge(Protocol):
    """Knows what is wrong with an Ingress; see `admission.Admission`."""

    def judge(self, new: Mapping[str, object], old: Mapping[str, object] | None) -> Verdict:
        """Return what is wrong with an Ingress that is to be stored in the place of `old`."""


class _Kind(msgspec.Struct):
    group: str
    version: str
    kind: str


class _Request(msgspec.Struct, rename="camel"):
    uid: str
    kind: _Kind
    operation: str
    namespace: str = ""
    sub_resource: str = ""
    object: dict[str, Any] | None = None
    old_object: dict[str, Any] | None = None


class _Review(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    request: _Request


class _Status(msgspec.Struct):
    message: str
    code: int = 422
    reason: str = "Invalid"


class _Response(msgspec.Struct, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()


_reviews = msgspec.json.Decoder(_Review)


class Webhook:
    """The server, from `start` to `close`.

    `reads` says of a namespace whether its Ingresses are read at all; `known` whether the cluster is known yet: until
    then everything is let through. `reviewed` is told the seconds that a review took, and its outcome.
    """

    def __init__(
        self,
        judge: Judge,
        reads: Callable[[str], bool],
        known: Callable[[], bool],
        reviewed: Callable[[float, bool], None],
    ) -> None:
        self._judge = judge
        self._reads = reads
        self._known = known
        self._reviewed = reviewed
        self._open = 0
        self._tasks = Tasks()
        app = web.Application(client_max_size=_BODY)
        app.router.add_post(PATH, self._serve)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN)

    async def start(self, settings: WebhookSettings, api: ApiObjects | None = None) -> int:
        """Listen and return the port; the certificate is read again when its files change, or renewed in time.

        `api` has the authority for a certificate of our own. Raises `OSError` and `ValueError`.
        """
        served = ServedTls()
        renewal = _renewal(settings, served, api)
        await self._runner.setup()
        await web.TCPSite(self._runner, settings.address, settings.port, ssl_context=served.front).start()
        self._tasks.spawn(renewal(), "webhook certificate")
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop listening; harmless when it never started."""
        await self._tasks.close()
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        if self._open >= _AT_ONCE:
            return web.Response(text="too many reviews at once\n", status=503, headers={hdrs.RETRY_AFTER: "1"})
        self._open += 1
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await request.read()
        except TimeoutError:
            return web.Response(text="the review did not come\n", status=408)
        finally:
            self._open -= 1
        return self._answer(body)

    def _answer(self, body: bytes) -> web.Response:
        began = time.perf_counter()
        try:
            request = _request(body)
            response = self._review(request)
        except (msgspec.DecodeError, ValueError) as error:
            return web.Response(text=f"this is no review: {_cut(str(error))}\n", status=400)
        self._reviewed(time.perf_counter() - began, response.allowed)
        answer = {"apiVersion": _VERSION, "kind": "AdmissionReview", "response": response}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    def _review(self, request: _Request) -> _Response:
        """Return our answer. Raises `ValueError` for what no API server sends."""
        kind = request.kind
        if (kind.group, kind.version, kind.kind) != ("networking.k8s.io", "v1", "Ingress") or request.sub_resource:
            return _Response(request.uid, allowed=True)
        if request.operation not in ("CREATE", "UPDATE") or not self._reads(request.namespace):
            return _Response(request.uid, allowed=True)
        if not self._known():
            return _let_pass(request.uid, "Portway does not know the cluster yet, and let this pass unread.")
        if request.object is None:
            raise ValueError("it has no object")
        try:
            return _respond(request.uid, self._judge.judge(request.object, request.old_object))
        except NoIngress:
            raise
        except Exception:  # noqa: BLE001 - a fault of ours must keep nobody from working; it is logged
            _log.exception("cannot judge an Ingress of the namespace %s", request.namespace)
            return _let_pass(request.uid, "Portway failed at this, and let it pass: see its log.")


def _renewal(
    settings: WebhookSettings, served: ServedTls, api: ApiObjects | None
) -> Callable[[], Coroutine[None, None, None]]:
    """Return what keeps the certificate fresh, for ever; raises `OSError` and `ValueError` for files that are none."""
    if not isinstance(settings.certificate, OwnCertificate):
        files = CertificateFiles(served, *settings.certificate)
        files.load()
        return files.run
    if api is None:
        raise ValueError("A certificate of the operator's own needs an API server.")
    return AuthorityKeeper(api, settings.certificate.kept, served, settings.certificate.hosts).run


def _request(body: bytes) -> _Request:
    review = _reviews.decode(body)
    if (review.api_version, review.kind) != (_VERSION, "AdmissionReview"):
        raise ValueError(f"it is no AdmissionReview of {_VERSION}")
    return review.request


def _let_pass(uid: str, warning: str) -> _Response:
    return _Response(uid, allowed=True, warnings=(warning,))


def _respond(uid: str, verdict: Verdict) -> _Response:
    warnings = tuple(_cut(_sentence(problem)) for problem in verdict.warnings[:_WARNINGS])
    if not verdict.refused:
        return _Response(uid, allowed=True, warnings=warnings)
    return _Response(uid, allowed=False, status=_Status(_reasons(verdict.refused)), warnings=warnings)


def _reasons(refused: Sequence[Problem]) -> str:
    sentences = [_sentence(problem) for problem in refused[:_REASONS]]
    more = len(refused) - _REASONS
    return " ".join([*sentences, f"And {more} more."] if more > 0 else sentences)


def _sentence(problem: Problem) -> str:
    """Return the finding as one line, with the object: it may be about another one."""
    return "".join(each if each.isprintable() else "?" for each in str(problem))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
