"""`Portway-Watch`: for how long an operator wants reports, and with which endpoints."""

from __future__ import annotations

import pytest

from portway_proxy.stream import Watch, decode, encode


@pytest.mark.parametrize("watch", [Watch(0.0), Watch(10.0), Watch(60.0, "shop/web:80#web,shop/db:5432/tcp")])
def test_it_is_read_as_it_was_written(watch: Watch) -> None:
    assert Watch.parse(watch.field) == watch
    assert decode(encode(watch)) == watch


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "10; endpoints=", "10; endpoints=a b", "10, 20", "99999"])
def test_what_cannot_be_read_wants_nothing(text: str) -> None:
    assert Watch.parse(text) == Watch(0.0)
