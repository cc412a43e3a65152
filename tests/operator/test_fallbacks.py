"""`compile/fallbacks.py`, beyond the golden case: how long a silent client is waited for."""

from __future__ import annotations

import pytest

from scenes import compiled

SCENE = """
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: portway, annotations: {{portway.dev/fallback: "shop/mail:25{wait}"}}}}
spec: {{controller: portway.dev/ingress-controller}}
---
apiVersion: v1
kind: Service
metadata: {{name: mail, namespace: shop}}
spec: {{ports: [{{port: 25}}]}}
"""


@pytest.mark.parametrize(("wait", "expected"), [("", 1.0), (" 300ms", 0.3), ("  5s", 5.0)])
def test_a_silent_client_is_waited_for_as_long_as_the_fallback_says(wait: str, expected: float) -> None:
    fallback = compiled(SCENE.format(wait=wait)).snapshot.fallback
    assert fallback is not None
    assert fallback.wait == expected


@pytest.mark.parametrize("wait", [" soon", " 0s", " 2m", " 1s 2s", "1s"])
def test_a_fallback_with_a_time_that_is_none_counts_for_nothing(wait: str) -> None:
    snapshot = compiled(SCENE.format(wait=wait)).snapshot
    assert snapshot.fallback is None
    assert "fallback_invalid" in [problem.code for problem in snapshot.problems]
