"""The metrics of this server: families of Prometheus, made from plain integers at each scrape.

docs/metrics.md has a row for each. No label has a topic or a client, and every value of a label is
exported from the start.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import GCCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry

from handlers.process import ProcessFigures, process_figures
from hub.counters import Counters, Histogram
from hub.dispatcher import Dispatcher
from hub.drain import Drain
from hub.hub import Hub
from hub.reports import CommandType, Limit, Source
from hub.settings import Settings
from hub.version import VERSION

_Word = TypeVar("_Word", bound=str)


class ServerCollector(Collector):
    """Reads the counts and the state of one server."""

    def __init__(
        self,
        settings: Settings,
        hub: Hub,
        dispatcher: Dispatcher,
        drain: Drain,
        counters: Counters,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._dispatcher = dispatcher
        self._drain = drain
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield all families."""
        yield from self._connections()
        yield from self._messages()
        yield from self._deliveries()
        yield from self._histories()
        yield from self._refusals()
        if self._settings.redis_addr is not None:
            yield from self._redis()
        yield from self._server()

    def _connections(self) -> Iterator[Metric]:
        hub, counters = self._hub, self._counters
        yield _gauge("connections", "Open WebSockets and streams.", len(hub.clients))
        limit = self._settings.max_connections
        yield _gauge("max_connections", "MAX_CONNECTIONS; 0 without a limit.", limit)
        connects = CounterMetricFamily(
            "broadcast_connections",
            "Attempts to open a WebSocket or stream.",
            labels=("transport", "result"),
        )
        for (kind, result), count in counters.connections.items():
            connects.add_metric((kind, result), count)
        yield connects
        text = "Connections that have ended."
        yield _counters("disconnects", text, "reason", counters.disconnects)
        text = "Time from the start of a connection to its end."
        yield _histogram("connection_seconds", text, counters.connection_seconds)
        yield _gauge("subscriptions", "Subscriptions of all clients.", hub.subscriptions)
        yield _gauge("topics", "Topics that this server knows.", hub.topic_count)

    def _messages(self) -> Iterator[Metric]:
        published, dispatcher = self._hub.published, self._dispatcher
        done = {**dispatcher.carried_out, CommandType.PUBLISH: published.websocket}
        commands = CounterMetricFamily(
            "broadcast_commands", "Commands of WebSocket clients.", labels=("type", "result")
        )
        for kind in CommandType:
            if kind is not CommandType.INVALID:
                commands.add_metric((kind, "ok"), done[kind])
            commands.add_metric((kind, "refused"), dispatcher.refused[kind])
        yield commands
        text = "Messages that were accepted from clients of this server."
        counts = {Source.WEBSOCKET: published.websocket, Source.REST: published.rest}
        yield _counters("published", text, "source", counts)

    def _deliveries(self) -> Iterator[Metric]:
        fanout, counters = self._hub.fanout, self._counters
        text = "Events given to subscribers, each counted per subscriber."
        yield _counter("delivered", text, fanout.deliveries)
        yield _counter("delivered_bytes", "Encoded bytes of these events.", fanout.delivered_bytes)
        text = "Time from an event's arrival at the fan-out to the writes to all sockets, sampled."
        yield _histogram("delivery_lag_seconds", text, counters.delivery_lag)
        text = "Messages dropped from send queues."
        yield _counters("dropped", text, "reason", counters.drops)
        queued, worst = self._queued()
        yield _gauge("queue_bytes", "Bytes queued for all clients.", queued)
        yield _gauge("queue_max_bytes", "Bytes queued for the client that has the most.", worst)
        text = "Clients that were too slow, by what was done about them."
        yield _counters("slow_consumers", text, "action", counters.slow_consumers)

    def _queued(self) -> tuple[int, int]:
        """Return the bytes that are queued for all clients, and for the one that has the most."""
        queued = [client.queued_bytes for client in self._hub.clients if client.slow]
        return sum(queued), max(queued, default=0)

    def _histories(self) -> Iterator[Metric]:
        counters = self._counters
        text = "Subscribes with a position, by whether the missed events follow."
        counts = {str(it).lower(): count for it, count in counters.recoveries.items()}
        yield _counters("recoveries", text, "recovered", counts)
        yield _counter("recovered_events", "Missed events that follow.", counters.recovered_events)
        yield _counters("gaps", "Gap notices, by their cause.", "cause", counters.gaps)
        used = self._hub.broker.history_budget.used
        yield _gauge("history_bytes", "Memory of the events that topics remember.", used)

    def _refusals(self) -> Iterator[Metric]:
        counters = self._counters
        dropped = self._hub.broker.history_budget.dropped
        limits = {**counters.limits, Limit.HISTORY_TOTAL_BYTES: dropped}
        yield _counters("limited", "Uses of a limit.", "limit", limits)
        text = "Commands and requests that were refused."
        yield _counters("refused", text, "reason", counters.refusals)

    def _redis(self) -> Iterator[Metric]:
        counters = self._counters
        up = bool(self._hub.broker.reachable)
        yield _gauge("redis_up", "1 while Redis can be reached, else 0.", up)
        text = "Outages of Redis, by the reason of their beginning."
        yield _counters("redis_outages", text, "reason", counters.outages)
        text = "Time until Redis answers a command, measured once a second."
        yield _histogram("redis_command_seconds", text, counters.broker_answers)
        text = "Time until a message comes back through Redis, measured once a second."
        yield _histogram("redis_lag_seconds", text, counters.broker_returns)

    def _server(self) -> Iterator[Metric]:
        text = "Time by which the event loop is late, measured 8 times a second."
        yield _histogram("event_loop_lag_seconds", text, self._counters.loop_lag)
        text = "1 from the signal to shut down on, else 0."
        yield _gauge("draining", text, self._drain.announced)
        yield InfoMetricFamily("broadcast_build", "This server.", {"version": VERSION})
        figures = process_figures()
        if figures is not None:
            yield _gauge("open_fds", "Open file descriptors.", figures.open_descriptors)
            yield from _process(figures)


def build_registry(collector: ServerCollector) -> CollectorRegistry:
    """Return a registry with the metrics of a server, of its process and its garbage collector."""
    registry = CollectorRegistry()
    registry.register(collector)
    GCCollector(registry)
    return registry


class WithoutClashes(Collector):
    """The families of another collector, without names that clash in OpenMetrics.

    OpenMetrics names the family of a counter without `_total`. So `broadcast_connections_total`
    would be in the family of the gauge `broadcast_connections`. Here it becomes a family of its
    own, without a type.
    """

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        """Yield all families."""
        names = set()
        for family in self._collector.collect():
            if family.name in names:
                own = Metric(f"{family.name}_total", family.documentation, "unknown")
                own.samples = family.samples
                yield own
            else:
                names.add(family.name)
                yield family


def _process(figures: ProcessFigures) -> Iterator[Metric]:
    """Yield the metrics that every client library of Prometheus exports (`process_`).

    prometheus_client is not used for them, because it lists all descriptors to count them.
    """
    for name, text, value in (
        ("virtual_memory_bytes", "Virtual memory.", figures.virtual_bytes),
        ("resident_memory_bytes", "Resident memory.", figures.resident_bytes),
        ("start_time_seconds", "Start of the process, since the epoch.", figures.started_at),
        ("open_fds", "Open file descriptors.", figures.open_descriptors),
        ("max_fds", "The limit of open file descriptors.", figures.max_descriptors),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value)
    text = "Processor time, of the system too."
    yield CounterMetricFamily("process_cpu_seconds", text, figures.cpu_seconds)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"broadcast_{name}", text, value)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"broadcast_{name}", text, value)


def _counters(name: str, text: str, label: str, counts: Mapping[_Word, int]) -> Metric:
    family = CounterMetricFamily(f"broadcast_{name}", text, labels=(label,))
    for value, count in counts.items():
        family.add_metric((value,), count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(f"broadcast_{name}", text)
    total = 0
    buckets = []
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), total))
    family.add_metric((), buckets, histogram.sum)
    return family
