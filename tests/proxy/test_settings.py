from __future__ import annotations

import os

import msgspec
import pytest

from portway_proxy.settings import Limits, ProxySettings, Timeouts


def test_limits_are_those_of_the_documents() -> None:
    # hostile-world, 1.4.
    assert Limits() == Limits(
        request_line=8 * 1024,
        field=16 * 1024,
        fields=100,
        head=64 * 1024,
        trailers=16 * 1024,
        interim_responses=16,
        body=0,
        buffer=64 * 1024,
    )


def test_every_wait_has_an_end() -> None:
    values = msgspec.structs.asdict(Timeouts())
    assert values.pop("grace") == 0
    assert values.pop("request") == 0  # Its parts have their ends; as a whole a download may take hours.
    assert values.pop("lifetime") == 0  # A relay that is silent has its end; a busy one may take days.
    assert values.pop("unacknowledged") == 0  # The kernel has an end for the dead, the idle timeout for the others.
    assert all(0 < value <= 3600 for value in values.values())


def test_idle_connections_to_endpoints_end_before_those_end_them() -> None:
    assert Timeouts().upstream_idle < 60


def test_a_worker_for_each_core_that_we_may_use() -> None:
    assert ProxySettings().workers == len(os.sched_getaffinity(0))


def test_settings_do_not_change() -> None:
    settings = ProxySettings()
    with pytest.raises(AttributeError):
        settings.workers = 7  # type: ignore[misc]
    with pytest.raises(AttributeError):
        settings.limits.head = 7  # type: ignore[misc]


def test_settings_reach_a_worker_as_they_are() -> None:
    settings = ProxySettings(https_port=None, limits=Limits(head=7), timeouts=Timeouts(drain=1.5), node="n")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(settings), type=ProxySettings) == settings
