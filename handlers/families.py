"""Metrics as plain data, the form in which workers and their parent exchange them."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from hub.values import Json


def to_plain(collector: Collector) -> Json:
    """Return the families of a collector as lists that JSON can hold.

    A family is its name, documentation, type and samples. A sample is a name, labels and a value.
    """
    return [
        (it.name, it.documentation, it.type, [sample[:3] for sample in it.samples])
        for it in collector.collect()
    ]


class PlainFamilies(Collector):
    """Collects the families that `to_plain` has made plain."""

    def __init__(self, plain: Json) -> None:
        self._plain = plain

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        for name, documentation, kind, samples in self._plain:
            family = Metric(name, documentation, kind)
            family.samples = [Sample(*sample) for sample in samples]
            yield family
