"""Metrics as plain data, in which the processes of a server send them to each other."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from hub.values import Json


def to_plain(collector: Collector) -> Json:
    """Return all families: name, documentation, type, and the samples."""
    return [
        (it.name, it.documentation, it.type, [sample[:3] for sample in it.samples])
        for it in collector.collect()
    ]


class PlainFamilies(Collector):
    """The families of plain data."""

    def __init__(self, plain: Json) -> None:
        self._plain = plain

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        for name, documentation, kind, samples in self._plain:
            family = Metric(name, documentation, kind)
            family.samples = [Sample(*sample) for sample in samples]
            yield family
