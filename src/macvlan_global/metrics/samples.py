"""Samples of one scrape, by metric. A name or a number of labels that `description` does not have is an error."""

from macvlan_global.metrics.counts import TimeBuckets
from macvlan_global.metrics.description import DESCRIPTIONS

_LABELS = {each.name: len(each.labels) for each in DESCRIPTIONS if not each.of_process}


class Samples:
    """Values by metric and labels."""

    def __init__(self) -> None:
        """None yet."""
        self._values: dict[str, list[tuple[tuple[str, ...], float | TimeBuckets]]] = {}

    def add(self, name: str, value: float | TimeBuckets, *labels: str) -> None:
        """Add a sample of the metric `name` (without the prefix).

        Raises:
            KeyError, ValueError: there is no such metric, or it has other labels.
        """
        if _LABELS[name] != len(labels):
            raise ValueError(f"{name} has {_LABELS[name]} labels, and not {len(labels)}")
        self._values.setdefault(name, []).append((labels, value))

    def of(self, name: str) -> list[tuple[tuple[str, ...], float | TimeBuckets]]:
        """The samples of a metric, each with its labels."""
        return self._values.get(name, [])
