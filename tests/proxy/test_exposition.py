from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from portway_proxy.exposition import Totals, render, shrink
from portway_proxy.metrics import CONNECTIONS_ACTIVE, FAMILIES, GENERATION, REPLIES, REQUESTS, Sample, pack


def test_workers_are_added_up_series_by_series() -> None:
    totals = Totals()
    totals.report(1, shrink(pack([REQUESTS.sample(3, "shop/web:80", "200"), CONNECTIONS_ACTIVE.sample(2)])))
    totals.report(2, shrink(pack([REQUESTS.sample(4, "shop/web:80", "200"), REQUESTS.sample(1, "shop/web:80", "502")])))
    assert sorted(totals.samples(), key=repr) == sorted(
        [
            REQUESTS.sample(7, "shop/web:80", "200"),
            REQUESTS.sample(1, "shop/web:80", "502"),
            CONNECTIONS_ACTIVE.sample(2),
        ],
        key=repr,
    )


def test_a_later_report_replaces_the_earlier_one() -> None:
    totals = Totals()
    totals.report(1, shrink(pack([REPLIES.sample(1, "no_host")])))
    totals.report(1, shrink(pack([REPLIES.sample(5, "no_host")])))
    assert totals.samples() == [REPLIES.sample(5, "no_host")]


def test_counters_of_a_worker_that_died_stay_and_its_gauges_go() -> None:
    totals = Totals()
    totals.report(1, shrink(pack([REPLIES.sample(5, "no_host"), CONNECTIONS_ACTIVE.sample(9)])))
    totals.retire(1)
    totals.retire(1)
    totals.report(2, shrink(pack([REPLIES.sample(1, "no_host")])))
    totals.retire(3)
    assert totals.samples() == [REPLIES.sample(6, "no_host")]


def test_every_family_has_help_and_type_even_without_a_sample() -> None:
    text = render([]).decode()
    for family in FAMILIES:
        assert f"# HELP {family.name} {family.doc}\n# TYPE {family.name} {family.kind}\n" in text


def test_label_values_are_escaped_and_read_back() -> None:
    hostile = 'a"b\\c\nd'
    text = render([REPLIES.sample(2, hostile), GENERATION.sample(7)]).decode()
    read = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert read == {("portway_replies_total", hostile): 2, ("portway_generation",): 7}


def test_a_sample_of_no_family_is_an_error() -> None:
    with pytest.raises(KeyError):
        render([Sample("portway_unknown", (), 1)])
