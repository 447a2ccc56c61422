"""Exposition of samples in the text format of Prometheus, version 0.0.4, by prometheus_client.

Only a driver that serves metrics imports this module: the import costs a start more than all of our own.
"""

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from macvlan_global.metrics.counts import BOUNDS, TimeBuckets
from macvlan_global.metrics.description import DESCRIPTIONS, PREFIX, MetricDescription
from macvlan_global.metrics.samples import Samples

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PROCESS = ProcessCollector(namespace=PREFIX.rstrip("_"), registry=None)
"""One for all scrapes: it reads the time of the boot once. The kernel computes that anew, and it varies."""
_BOUND_TEXTS = (*map(str, BOUNDS), "+Inf")


def text_of(samples: Samples) -> bytes:
    """The samples, and those of the process."""
    return generate_latest(_Families(samples))


class _Families(Collector):
    def __init__(self, samples: Samples) -> None:
        self._samples = samples

    def collect(self) -> Iterator[Metric]:
        """See `Collector.collect`."""
        for each in DESCRIPTIONS:
            if not each.of_process:
                yield _family(each, self._samples)
        yield from _PROCESS.collect()


def _family(of: MetricDescription, samples: Samples) -> Metric:
    if of.kind == "histogram":
        histogram = HistogramMetricFamily(of.full_name, of.text, labels=of.labels)
        for labels, value in samples.of(of.name):
            if isinstance(value, TimeBuckets):
                buckets = list(zip(_BOUND_TEXTS, map(float, accumulate(value.counts)), strict=True))
                histogram.add_metric(labels, buckets, value.seconds)
        return histogram
    family: CounterMetricFamily | GaugeMetricFamily = (
        CounterMetricFamily(of.full_name, of.text, labels=of.labels)
        if of.kind == "counter"
        else GaugeMetricFamily(of.full_name, of.text, labels=of.labels)
    )
    for labels, value in samples.of(of.name):
        if not isinstance(value, TimeBuckets):
            family.add_metric(labels, value)
    return family
