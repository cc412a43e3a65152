"""`compile/tls.py`, beyond the golden case: kinds of keys, expiry, and Secrets that turn bad."""

from __future__ import annotations

import pytest

from certs import issue, staple
from portway_operator.compile import compile_snapshot
from portway_operator.objects import Kind, Meta, Secret
from portway_operator.settings import CompileSettings
from portway_operator.store import ObjectStore
from portway_proxy.snapshot import Severity, Snapshot
from scenes import SHOP, codes, compiled, store_of

DAY = 86_400


def secret(name: str, *hosts: str, rsa: bool = False, namespace: str = "shop") -> Secret:
    chain, key = issue(*hosts, rsa=rsa)
    return Secret(Meta(namespace, name), "kubernetes.io/tls", {"tls.crt": chain, "tls.key": key})


def ingress(name: str, *secrets: str, namespace: str = "shop", born: str = "2024-01-01T00:00:00Z") -> str:
    tls = ", ".join(f"{{hosts: [two.example], secretName: {one}}}" for one in secrets)
    return f"""
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: {born}}}
spec:
  ingressClassName: portway
  tls: [{tls}]
  rules: [{{host: two.example}}]
"""


def served(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    return {certificate.name: certificate.hosts for certificate in snapshot.certificates}


def test_a_host_has_a_certificate_of_each_kind_of_key() -> None:
    found = compiled(
        SHOP, ingress("two", "ec", "rsa"), secret("ec", "two.example"), secret("rsa", "two.example", rsa=True)
    )
    assert served(found.snapshot) == {"shop/ec": ("two.example",), "shop/rsa": ("two.example",)}
    assert "certificate_taken" not in codes(found)


def test_of_one_kind_the_oldest_is_served_and_the_younger_is_told() -> None:
    found = compiled(SHOP, ingress("two", "a", "b"), secret("a", "two.example"), secret("b", "two.example"))
    assert served(found.snapshot) == {"shop/a": ("two.example",)}
    assert "certificate_taken" in codes(found)


def test_another_namespace_cannot_add_a_certificate_of_another_kind_to_a_host() -> None:
    found = compiled(
        SHOP,
        ingress("two", "ec"),
        ingress("other", "rsa", namespace="foreign", born="2024-02-01T00:00:00Z"),
        secret("ec", "two.example"),
        secret("rsa", "two.example", rsa=True, namespace="foreign"),
    )
    assert served(found.snapshot) == {"shop/ec": ("two.example",)}
    assert "certificate_taken" in codes(found)


@pytest.mark.parametrize(
    ("days", "code", "severity"),
    [
        (15, "", None),
        (14, "certificate_expires", Severity.NOTICE),
        (0, "certificate_expires", Severity.NOTICE),
        (-1, "certificate_expired", Severity.ERROR),
    ],
)
def test_a_certificate_that_is_about_to_expire_is_a_notice_and_one_that_has_an_error(
    days: int, code: str, severity: Severity | None
) -> None:
    store = store_of(SHOP, ingress("two", "ec"), secret("ec", "two.example"))
    not_after = compile_snapshot(store, CompileSettings()).snapshot.certificates[0].not_after
    found = compile_snapshot(store, CompileSettings(today=not_after // DAY - days))
    told = [problem for problem in found.problems if problem.code.startswith("certificate_")]
    assert [(problem.code, problem.severity) for problem in told] == ([(code, severity)] if code else [])
    assert served(found.snapshot) == {"shop/ec": ("two.example",)}


def turned_bad(store: ObjectStore) -> None:
    half = {"tls.crt": b"half of it", "tls.key": b""}
    store.put(Secret(Meta("shop", "ec"), "kubernetes.io/tls", half))


@pytest.mark.parametrize("default", ["", "shop/ec"], ids=["of an Ingress", "the default"])
def test_a_secret_that_turns_bad_leaves_its_last_good_certificate_and_a_problem(default: str) -> None:
    settings = CompileSettings(default_certificate=default)
    store = store_of(SHOP, ingress("two", "ec"), secret("ec", "two.example"))
    good = compile_snapshot(store, settings)
    turned_bad(store)
    bad = compile_snapshot(store.frozen(), settings, good)
    assert bad.snapshot.certificates == good.snapshot.certificates
    assert bad.snapshot.default_certificate == default
    told = [problem for problem in bad.problems if problem.code == "secret_malformed"]
    assert {problem.done for problem in told} == {"The certificate that it had before is still served."}
    store.remove(Kind.SECRET, "shop", "ec")
    assert compile_snapshot(store, settings).snapshot.certificates == ()


def test_a_certificate_that_comes_expired_leaves_the_one_before_until_a_good_one_comes() -> None:
    store = store_of(SHOP, ingress("two", "ec"), secret("ec", "two.example"))
    good = compile_snapshot(store, CompileSettings()).snapshot.certificates
    today = good[0].not_after // DAY - 20
    settings = CompileSettings(today=today)
    chain, key = issue("two.example", days=5)
    store.put(Secret(Meta("shop", "ec"), "kubernetes.io/tls", {"tls.crt": chain, "tls.key": key}))
    for _ in range(2):
        copy = store.frozen()
        found = compile_snapshot(copy, settings)
        assert found.snapshot.certificates == good
        [told] = [problem for problem in found.problems if problem.code == "certificate_expired"]
        assert told.done == "The certificate that it had before is still served."
        store.certificates.learn(copy.certificates, store.secrets)
    turned_bad(store)
    assert compile_snapshot(store, settings).snapshot.certificates == good
    store.put(secret("ec", "two.example"))
    assert compile_snapshot(store, settings).snapshot.certificates != good
    assert codes(compile_snapshot(store, settings)) == codes(compile_snapshot(store, CompileSettings()))


def test_a_certificate_that_expires_in_service_does_not_bring_back_the_one_before() -> None:
    store = store_of(SHOP, ingress("two", "ec"), secret("ec", "two.example"))
    before = compile_snapshot(store, CompileSettings(today=1)).snapshot.certificates
    chain, key = issue("two.example", days=5)
    store.put(Secret(Meta("shop", "ec"), "kubernetes.io/tls", {"tls.crt": chain, "tls.key": key}))
    for day in (1, before[0].not_after // DAY - 20):
        copy = store.frozen()
        found = compile_snapshot(copy, CompileSettings(today=day))
        assert [certificate.chain for certificate in found.snapshot.certificates] == [chain]
        store.certificates.learn(copy.certificates, store.secrets)
    assert [problem.done for problem in found.problems if problem.code == "certificate_expired"] == [
        "It is served, and clients refuse it."
    ]


@pytest.mark.parametrize("default", ["", "shop/ec"], ids=["of an Ingress", "the default"])
def test_what_is_stapled_stands_in_the_secret_and_is_a_notice_when_it_is_of_no_use(default: str) -> None:
    chain, key = issue("two.example")
    response = staple(chain, key)
    store = store_of(SHOP, ingress("two", "ec"))
    for data, served_staple, told in (
        (response, response, 0),
        (b"garbage", b"", 1),
        (response, response, 0),
    ):
        secret_data = {"tls.crt": chain, "tls.key": key, "tls.ocsp-staple": data}
        store.put(Secret(Meta("shop", "ec"), "kubernetes.io/tls", secret_data))
        found = compile_snapshot(store, CompileSettings(default_certificate=default))
        [one] = found.snapshot.certificates
        assert one.staple == served_staple
        assert codes(found).count("staple_unusable") == told * (2 if default else 1)
    late = CompileSettings(today=one.staple_until // DAY + 1, default_certificate=default)
    notices = [problem for problem in compile_snapshot(store, late).problems if problem.code == "staple_unusable"]
    assert {(problem.found, problem.severity) for problem in notices} == {
        ("tls.ocsp-staple in Secret shop/ec: It does not count any more.", Severity.NOTICE)
    }
