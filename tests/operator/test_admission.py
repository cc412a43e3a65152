"""`admission.py`, `claims.py` and `webhook.py`: which Ingresses are refused, and what a webhook answers to whom."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import pytest
import pytest_asyncio

from certs import issue
from portway_operator.admission import Admission, NoIngress, Verdict
from portway_operator.claims import Claims, claims_of
from portway_operator.compile import compile_snapshot
from portway_operator.decode import decode
from portway_operator.objects import Ingress, Kind
from portway_operator.operator_settings import WebhookSettings
from portway_operator.settings import CompileSettings
from portway_operator.webhook import PATH, Webhook
from portway_proxy.snapshot import PathMatch, Severity
from scenes import CLASS, SERVICE, store_of

Raw: TypeAlias = dict[str, Any]

OTHER = SERVICE.replace("name: web", "name: other")


def ingress(
    name: str = "web",
    *paths: str,
    host: str = "shop.example",
    service: str = "web",
    age: int = 2020,
    cls: str = "portway",
    **more: object,
) -> Raw:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    entries = [{"path": path, "pathType": "Prefix", "backend": backend} for path in paths or ("/",)]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "creationTimestamp": f"{age}-01-01T00:00:00Z",
        },
        "spec": {"ingressClassName": cls, "rules": [{"host": host, "http": {"paths": entries}}], **more},
    }


def default(name: str, age: int = 2020) -> Raw:
    """Return an Ingress with nothing but a default backend."""
    raw = ingress(name, age=age)
    raw["spec"] = {
        "ingressClassName": "portway",
        "defaultBackend": {"service": {"name": "web", "port": {"number": 80}}},
    }
    return raw


def annotated(raw: Raw, **annotations: str) -> Raw:
    named = {f"portway.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    return {**raw, "metadata": {**raw["metadata"], "annotations": named}}


class Cluster:
    """A store, and an admission that follows it."""

    def __init__(self, *stored: Raw, settings: CompileSettings | None = None) -> None:
        self.settings = settings or CompileSettings()
        self.store = store_of(CLASS, SERVICE, OTHER)
        self.admission = Admission(self.store, self.settings)
        self.admission.begin()
        for raw in stored:
            self.put(raw)

    def put(self, raw: Raw) -> None:
        found = decode(raw)
        assert isinstance(found, Ingress)
        before = self.store.ingresses.get(found.meta.key)
        self.store.put(found)
        self.admission.change(before, found)

    def remove(self, name: str) -> None:
        before = self.store.ingresses["shop", name]
        self.store.remove(Kind.INGRESS, "shop", name)
        self.admission.change(before, None)

    def create(self, raw: Raw) -> Verdict:
        return self.admission.judge(raw, None)


def refused(verdict: Verdict) -> list[str]:
    return [problem.code for problem in verdict.refused]


def warned(verdict: Verdict) -> list[str]:
    return [problem.code for problem in verdict.warnings]


def test_a_good_ingress_is_let_through_without_a_word() -> None:
    assert Cluster().create(ingress()) == Verdict()


def test_a_path_that_an_older_ingress_serves_is_refused_with_the_problems_sentence() -> None:
    cluster = Cluster(ingress("first", "/", "/cart"))
    verdict = cluster.create(ingress("second", "/cart", "/mine", service="other", age=2021))
    assert refused(verdict) == ["path_taken"]
    assert str(verdict.refused[0]) == (
        "Ingress shop/second spec.rules[0].http.paths[0]: shop.example /cart (prefix) is already served by Ingress "
        "shop/first spec.rules[0].http.paths[1]. This one is left out; the other serves the path. Remove one of the "
        "two, or give it another host or path."
    )


def test_the_same_path_to_the_same_upstream_is_only_worth_a_warning() -> None:
    verdict = Cluster(ingress("first")).create(ingress("second", age=2021))
    assert (refused(verdict), warned(verdict)) == ([], ["path_taken"])


@pytest.mark.parametrize(
    "other",
    [
        ingress("second", host="other.example", service="other", age=2021),
        ingress("second", "/other", service="other", age=2021),
        ingress("second", service="other", age=2021, cls="nginx"),
    ],
)
def test_another_host_path_or_class_is_no_conflict(other: Raw) -> None:
    assert refused(Cluster(ingress("first")).create(other)) == []


def test_an_ingress_of_another_class_takes_nothing_from_ours() -> None:
    cluster = Cluster(ingress("first", cls="nginx"))
    assert refused(cluster.create(ingress("second", service="other", age=2021))) == []


def test_an_ingress_that_joins_our_class_is_held_to_what_others_serve() -> None:
    foreign = ingress("second", service="other", age=2021, cls="nginx")
    cluster = Cluster(ingress("first"), foreign)
    joined = ingress("second", service="other", age=2021)
    assert refused(cluster.admission.judge(joined, foreign)) == ["path_taken"]


def test_an_update_that_takes_a_path_from_a_younger_ingress_is_refused_for_its_sake() -> None:
    old = ingress("old", "/a")
    cluster = Cluster(old, ingress("young", "/b", service="other", age=2021))
    verdict = cluster.admission.judge(ingress("old", "/a", "/b"), old)
    assert [str(problem.origin) for problem in verdict.refused] == ["Ingress shop/young spec.rules[0].http.paths[0]"]


def test_an_update_that_makes_nothing_worse_is_let_through() -> None:
    first, loser = ingress("first"), ingress("second", "/", "/mine", service="other", age=2021)
    cluster = Cluster(first, loser)
    marked = {**loser, "metadata": {**loser["metadata"], "labels": {"team": "a"}, "finalizers": []}}
    assert refused(cluster.admission.judge(marked, loser)) == []
    # Fields may have moved; what is lost is the same.
    moved = ingress("second", "/mine", "/", service="other", age=2021)
    assert refused(cluster.admission.judge(moved, loser)) == []
    worse = json.loads(json.dumps(ingress("second", "/", "/mine", "/mine", service="other", age=2021)))
    worse["spec"]["rules"][0]["http"]["paths"][2]["backend"]["service"]["name"] = "web"
    assert refused(cluster.admission.judge(worse, loser)) == ["path_taken"]


def test_who_has_lost_already_loses_nothing_to_another_winner() -> None:
    old = ingress("old", "/a", age=2019)
    cluster = Cluster(old, ingress("winner", "/b", age=2020), ingress("loser", "/b", service="other", age=2021))
    # It leads where the winner leads: nobody can tell the difference.
    assert refused(cluster.admission.judge(ingress("old", "/a", "/b", age=2019), old)) == []


def test_what_is_deleted_is_free_again() -> None:
    cluster = Cluster(ingress("first"))
    cluster.remove("first")
    assert refused(cluster.create(ingress("second", service="other", age=2021))) == []


def test_what_moved_elsewhere_is_free_again() -> None:
    cluster = Cluster(ingress("first"))
    cluster.put(ingress("first", "/elsewhere"))
    assert refused(cluster.create(ingress("second", service="other", age=2021))) == []


def test_a_second_default_for_everything_is_refused() -> None:
    cluster = Cluster(default("first"))
    assert refused(cluster.create(default("second", 2021))) == ["default_taken"]
    forbidden = Cluster(settings=CompileSettings(allow_catch_all=False))
    assert refused(forbidden.create(default("only"))) == ["catch_all_refused"]


def test_a_rule_without_paths_claims_its_host_for_the_default_backend() -> None:
    whole = default("whole")
    whole["spec"]["rules"] = [{"host": "shop.example"}]
    cluster = Cluster(whole)
    assert refused(cluster.create(ingress("second", "/", service="other", age=2021))) == ["path_taken"]
    assert refused(Cluster(ingress("first", service="other")).create({**whole, **_aged(whole, 2021)})) == ["path_taken"]


def _aged(raw: Raw, age: int) -> Raw:
    return {"metadata": {**raw["metadata"], "creationTimestamp": f"{age}-01-01T00:00:00Z"}}


def test_a_part_that_would_be_left_out_is_refused() -> None:
    bad = ingress()
    bad["spec"]["rules"][0]["http"]["paths"].append(
        {"path": "/b", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "b", "apiGroup": "x"}}}
    )
    assert refused(Cluster().create(bad)) == ["resource_backend"]
    assert refused(Cluster(bad).admission.judge(annotated(bad, body_size="1m"), bad)) == []


def test_an_unreadable_ingress_is_refused_if_its_class_is_ours() -> None:
    bad = ingress()
    bad["spec"]["rules"] = []
    assert refused(Cluster().create(bad)) == ["malformed"]
    assert refused(Cluster().admission.judge(bad, bad)) == []
    bad["spec"]["ingressClassName"] = "nginx"
    assert refused(Cluster().create(bad)) == []


def test_what_it_refers_to_may_come_later() -> None:
    verdict = Cluster().create(ingress(service="missing", tls=[{"hosts": ["shop.example"], "secretName": "missing"}]))
    assert refused(verdict) == []
    assert sorted(warned(verdict)) == ["secret_missing", "service_missing"]


def test_a_mistake_that_costs_no_route_is_a_warning() -> None:
    verdict = Cluster().create(annotated(ingress("web", "/a*"), body_size="huge", bodysize="1m"))
    assert refused(verdict) == []
    assert sorted(warned(verdict)) == ["annotation_invalid", "annotation_unknown", "path_pattern"]


def test_an_ingress_that_proxies_reject_serves_nothing_that_others_could_lose() -> None:
    cluster = Cluster(ingress("first"))
    cluster.store.refuse(Kind.INGRESS, "shop", "first", "it cannot be applied")
    assert refused(cluster.create(ingress("second", service="other", age=2021))) == []


def test_another_kind_of_object_is_no_ingress() -> None:
    with pytest.raises(NoIngress):
        Cluster().create({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}})


@pytest.mark.parametrize("second", [ingress("b", "/", service="other", age=2021), ingress("b", "/x", age=2021)])
def test_the_judgement_agrees_with_the_compile(second: Raw) -> None:
    first = ingress("a", "/", "/x/y")
    cluster = Cluster(first)
    verdict = cluster.create(second)
    cluster.put(second)
    compiled = compile_snapshot(cluster.store, cluster.settings).problems
    lost = [one for one in compiled if one.code == "path_taken" and one.severity is Severity.ERROR]
    assert list(verdict.refused) == lost


class Counting(dict[tuple[str, str], Ingress]):
    """Counts the Ingresses that are looked at."""

    looks = 0

    def get(self, key: tuple[str, str], default: Any = None) -> Any:  # noqa: ANN401 - as a dict declares it
        self.looks += 1
        return super().get(key, default)


def test_only_ingresses_that_claim_the_same_are_looked_at() -> None:
    many = [ingress(f"n{number}", f"/{number}", age=2010) for number in range(2000)]
    cluster = Cluster(*many)
    counting = Counting(cluster.store.ingresses)
    cluster.store.ingresses = counting  # type: ignore[assignment]  # a shelf that counts
    verdict = cluster.create(ingress("late", "/77", "/late", service="other", age=2021))
    assert refused(verdict) == ["path_taken"]
    assert counting.looks == 1


def test_of_thousands_that_claim_the_same_only_the_oldest_of_each_class_is_looked_at() -> None:
    ours = [ingress(f"n{number}", "/same", age=2010 + number % 7) for number in range(1000)]
    theirs = [ingress(f"t{number}", "/same", age=2001, cls="theirs") for number in range(1000)]
    cluster = Cluster(*ours, *theirs)
    counting = Counting(cluster.store.ingresses)
    cluster.store.ingresses = counting  # type: ignore[assignment]  # a shelf that counts
    verdict = cluster.create(ingress("late", "/same", service="other", age=2021))
    assert refused(verdict) == ["path_taken"]
    assert "shop/n0" in str(verdict.refused[0])
    assert counting.looks == 2


def test_an_ingress_that_changes_its_class_stands_in_the_other_line() -> None:
    cluster = Cluster(ingress("a", "/same", age=2001), ingress("b", "/same", age=2002))
    late = ingress("late", "/same", service="other", age=2021)
    cluster.put(ingress("a", "/same", age=2001, cls="theirs"))
    assert "shop/b" in str(cluster.create(late).refused[0])
    cluster.put(ingress("a", "/same", age=2001))
    assert "shop/a" in str(cluster.create(late).refused[0])
    cluster.remove("a")
    cluster.remove("b")
    assert refused(cluster.create(late)) == []


def test_claims_leave_nothing_behind() -> None:
    claims = Claims()
    found = [decode(raw) for raw in (ingress("a", "/", "/", "/x"), default("b"))]
    for one in found:
        assert isinstance(one, Ingress)
        claims.change(None, one)
    [first, second] = [one for one in found if isinstance(one, Ingress)]
    assert {key for claim in claims_of(first) for keys in claims.claimants(claim) for key in keys} == {("shop", "a")}
    assert [list(keys) for keys in claims.defaults()] == [[("shop", "b")]]
    claims.change(first, None)
    claims.change(second, None)
    assert not list(claims.claimants(("shop.example", "/", PathMatch.PREFIX)))
    assert not claims._by_claim
    assert not list(claims.defaults())


# --- the webhook


@dataclass
class Judged:
    """What a judge was asked, and what it answers."""

    admission: Admission
    asked: list[Mapping[str, object]] = field(default_factory=list)
    error: Exception | None = None

    def judge(self, new: Mapping[str, object], old: Mapping[str, object] | None) -> Verdict:
        self.asked.append(new)
        if self.error is not None:
            raise self.error
        return self.admission.judge(new, old)


class Caller:
    """A webhook on a real port, and somebody who calls it."""

    def __init__(self, judge: Judged, files: tuple[Path, Path], client: aiohttp.ClientSession) -> None:
        self.port = 0
        self.judge = judge
        self.files = files
        self.client = client
        self.known = True
        self.reviews: list[bool] = []

    def take(self, seconds: float, allowed: bool) -> None:
        assert seconds >= 0
        self.reviews.append(allowed)

    async def post(self, body: bytes | io.BytesIO, path: str = PATH) -> tuple[int, str]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        url = f"https://127.0.0.1:{self.port}{path}"
        async with self.client.post(url, data=body, ssl=context) as response:
            return response.status, await response.text()

    async def review(self, raw: Raw | None, **request: object) -> Raw:
        """Return the response to a review."""
        kind = {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}
        asked = {"uid": "u-1", "kind": kind, "operation": "CREATE", "namespace": "shop", "object": raw, **request}
        review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked}
        status, text = await self.post(json.dumps(review).encode())
        assert status == 200, text
        answer: Raw = json.loads(text)
        assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        found: Raw = answer["response"]
        assert found["uid"] == "u-1"
        return found


@asynccontextmanager
async def calling(directory: Path, *stored: Raw) -> AsyncIterator[Caller]:
    files = directory / "tls.crt", directory / "tls.key"
    for path, data in zip(files, issue("localhost"), strict=True):
        path.write_bytes(data)
    judge = Judged(Cluster(*stored).admission)
    async with aiohttp.ClientSession() as client:
        made = Caller(judge, files, client)
        webhook = Webhook(judge, lambda namespace: namespace != "unread", lambda: made.known, made.take)
        made.port = await webhook.start(WebhookSettings("127.0.0.1", 0, files))
        try:
            yield made
        finally:
            await webhook.close()


@pytest_asyncio.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    async with calling(tmp_path, ingress("first")) as caller:
        yield caller


async def test_a_good_ingress_is_allowed(caller: Caller) -> None:
    assert await caller.review(ingress("second", "/new")) == {"uid": "u-1", "allowed": True}
    assert caller.reviews == [True]


async def test_a_conflict_is_refused_with_the_sentence(caller: Caller) -> None:
    answer = await caller.review(ingress("second", service="other", age=2021))
    assert answer["allowed"] is False
    assert (answer["status"]["code"], answer["status"]["reason"]) == (422, "Invalid")
    assert answer["status"]["message"].startswith(
        "Ingress shop/second spec.rules[0].http.paths[0]: shop.example / (prefix) is already served by Ingress shop/"
    )
    assert caller.reviews == [False]


async def test_notices_become_warnings_that_fit(caller: Caller) -> None:
    answer = await caller.review(ingress("second", "/new", service="m" * 60))
    assert answer["allowed"] is True
    assert all(len(warning) <= 250 for warning in answer["warnings"])
    assert answer["warnings"][0].startswith("Ingress shop/second spec.rules[0].http.paths[0]: There is no Service")


async def test_a_flood_of_reasons_is_summed_up(caller: Caller) -> None:
    paths = [f"/{number}" for number in range(30)]
    twice = ingress("second", *paths)
    again = json.loads(json.dumps(twice["spec"]["rules"][0]).replace('"web"', '"other"'))
    twice["spec"]["rules"].append(again)
    answer = await caller.review(twice)
    assert answer["status"]["message"].endswith(" And 25 more.")
    missing = await caller.review(ingress("second", *paths, service="missing"))
    assert len(missing["warnings"]) == 10


@pytest.mark.parametrize(
    "request_",
    [
        {"operation": "DELETE", "object": None},
        {"operation": "CONNECT"},
        {"namespace": "unread"},
        {"subResource": "status"},
        {"kind": {"group": "", "version": "v1", "kind": "Service"}},
        {"kind": {"group": "networking.k8s.io", "version": "v1", "kind": "NetworkPolicy"}},
    ],
)
async def test_what_is_none_of_our_business_is_allowed_unread(caller: Caller, request_: Raw) -> None:
    raw = ingress("second", service="other", age=2021)
    assert (await caller.review(raw, **request_))["allowed"] is True
    assert caller.judge.asked == []


async def test_before_the_cluster_is_known_everything_passes_with_a_warning(caller: Caller) -> None:
    caller.known = False
    answer = await caller.review(ingress("second", service="other", age=2021))
    assert answer["allowed"] is True
    assert answer["warnings"] == ["Portway does not know the cluster yet, and let this pass unread."]


async def test_a_fault_of_ours_keeps_nobody_from_working(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caller.judge.error = RuntimeError("a fault of ours")
    answer = await caller.review(ingress("second"))
    assert answer["allowed"] is True
    assert answer["warnings"] == ["Portway failed at this, and let it pass: see its log."]
    assert "a fault of ours" in caplog.text


REVIEW = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}
INGRESS = {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        json.dumps(REVIEW).encode(),
        json.dumps({**REVIEW, "request": {"uid": 1, "kind": INGRESS, "operation": "CREATE"}}).encode(),
        json.dumps({**REVIEW, "request": {"uid": "a", "kind": INGRESS, "operation": "CREATE"}}).encode(),
        json.dumps(
            {**REVIEW, "request": {"uid": "a", "kind": INGRESS, "operation": "CREATE", "object": {"kind": "Pod"}}}
        ).encode(),
        json.dumps({**REVIEW, "apiVersion": "admission.k8s.io/v1beta1", "request": {}}).encode(),
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_what_is_no_review_gets_a_400(caller: Caller, body: bytes) -> None:
    status, text = await caller.post(body)
    assert status == 400
    assert text.startswith("this is no review: ")
    assert caller.reviews == []


async def test_a_body_that_is_too_long_is_not_read(caller: Caller) -> None:
    status, _ = await caller.post(io.BytesIO(b" " * (3 * 1024 * 1024 + 1)))
    assert status == 413


async def test_nothing_else_is_answered(caller: Caller) -> None:
    assert (await caller.post(b"{}", "/"))[0] == 404
    assert (await caller.post(b"{}", "/metrics"))[0] == 404


async def test_too_many_half_sent_reviews_are_turned_away_and_cost_no_answer_for_long(tmp_path: Path) -> None:
    async with calling(tmp_path) as caller:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{{".encode()
        half = []
        for _ in range(32):
            _, writer = await asyncio.open_connection("127.0.0.1", caller.port, ssl=context)
            writer.write(head)
            half.append(writer)

        for _ in range(200):
            if (status := (await caller.post(b"{}"))[0]) == 503:
                break
        assert status == 503
        for writer in half:
            writer.transport.abort()
        for _ in range(200):
            if (status := (await caller.post(b"{}"))[0]) == 400:
                break
            await asyncio.sleep(0.02)
        assert status == 400
        assert (await caller.review(ingress("second", "/new")))["allowed"] is True


async def test_a_renewed_certificate_is_shown_without_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portway_operator.served_tls.CertificateFiles.run.__defaults__", (0.05,))
    async with calling(tmp_path) as caller:
        before = await shown(caller.port)
        assert await shown(caller.port) == before
        for path, data in zip(caller.files, issue("localhost"), strict=True):
            path.write_bytes(data)
        for _ in range(200):
            if await shown(caller.port) != before:
                break
            await asyncio.sleep(0.05)
        assert await shown(caller.port) != before
        assert (await caller.review(ingress("second", "/new")))["allowed"] is True


async def shown(port: int) -> bytes:
    """Return the certificate that the port shows."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return found


async def test_a_webhook_without_a_usable_certificate_does_not_start(tmp_path: Path) -> None:
    webhook = Webhook(Cluster().admission, lambda _: True, lambda: True, lambda _, __: None)
    with pytest.raises(OSError, match=r"tls\.crt"):
        await webhook.start(WebhookSettings("127.0.0.1", 0, (tmp_path / "tls.crt", tmp_path / "tls.key")))
    await webhook.close()
