"""The description of metrics keeps the conventions of Prometheus, and samples keep to the description."""

import re

import pytest

from macvlan_global.metrics.counts import TimeBuckets
from macvlan_global.metrics.description import DESCRIPTIONS
from macvlan_global.metrics.exposition import text_of
from macvlan_global.metrics.samples import Samples

BOUNDED = {
    *("action", "answer", "attach", "by", "correction", "holder", "method", "network", "operation", "outcome"),
    *("parent", "result", "scope", "state", "store", "subnet", "transport", "version", "watch", "what"),
}
"""Labels with few values: kinds, and the networks, subnets and parents of one host. No container, address or MAC."""
OLD = {
    *("request_seconds", "requests_refused_total", "held", "corrections_total", "remembered_addresses", "conflicts"),
    *("conflict_frames_total", "unseen_frames_total"),
}
"""Names that operators had before: they stay."""


def test_names_follow_the_conventions() -> None:
    """A counter ends with `_total`, nothing else does; times are in seconds; no unit is abbreviated."""
    for each in DESCRIPTIONS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", each.name), each
        assert each.name.endswith("_total") == (each.kind == "counter"), each
        assert (each.kind == "histogram") <= each.name.endswith("_seconds"), each
        assert not re.search(r"_(ms|sec|count|sum|bucket|info_total)$", each.name), each
    assert len({each.name for each in DESCRIPTIONS}) == len(DESCRIPTIONS)


def test_no_label_is_unbounded() -> None:
    """Only labels with few values are there."""
    assert {label for each in DESCRIPTIONS for label in each.labels} == BOUNDED


def test_names_of_earlier_releases_stay() -> None:
    """Those that an operator may have in a dashboard."""
    assert {each.name for each in DESCRIPTIONS} >= OLD


def test_a_sample_is_of_a_metric_that_is_described() -> None:
    """Another name, or another number of labels, is refused."""
    samples = Samples()
    with pytest.raises(KeyError):
        samples.add("guests", 1)
    with pytest.raises(ValueError, match="requests_total has 2 labels, and not 1"):
        samples.add("requests_total", 1, "Join")


def test_the_text_is_that_of_prometheus() -> None:
    """A gauge, a counter with an escaped label, and a histogram, whose buckets are cumulative."""
    samples, times = Samples(), TimeBuckets()
    for seconds in (0.0001, 0.002, 20.0):
        times.add(seconds)
    samples.add("made_parents", 2)
    samples.add("network_endpoints", 3, 'a"b\\c')
    samples.add("requests_total", 4, "NetworkDriver.Join", "answered")
    samples.add("request_seconds", times, "NetworkDriver.Join")
    lines = text_of(samples).decode().splitlines()
    assert "macvlan_global_made_parents 2.0" in lines
    assert r'macvlan_global_network_endpoints{network="a\"b\\c"} 3.0' in lines
    assert 'macvlan_global_requests_total{method="NetworkDriver.Join",outcome="answered"} 4.0' in lines
    bucket = 'macvlan_global_request_seconds_bucket{le="%s",method="NetworkDriver.Join"} %s'
    assert {bucket % ("0.0005", "1.0"), bucket % ("0.0025", "2.0"), bucket % ("+Inf", "3.0")} <= set(lines)
    assert 'macvlan_global_request_seconds_sum{method="NetworkDriver.Join"} 20.0021' in lines
    assert 'macvlan_global_request_seconds_count{method="NetworkDriver.Join"} 3.0' in lines
    assert any(each.startswith("macvlan_global_process_start_time_seconds ") for each in lines)


def test_every_metric_of_the_process_is_described() -> None:
    """Those of the library, with their kinds."""
    text = text_of(Samples()).decode()
    found = dict(re.findall(r"^# TYPE macvlan_global_(process_\w+) (\w+)$", text, re.MULTILINE))
    assert found == {each.name: each.kind for each in DESCRIPTIONS if each.of_process}
