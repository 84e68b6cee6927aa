"""The metrics of several workers as one, as plain data."""

from workers.totals import Family, Report, of_ended, of_replaced, of_worker, total


def family(name: str, kind: str, *values: float, suffix: str = "", **labels: str) -> Family:
    return Family(name, "", kind, [(name + suffix, labels, value) for value in values])


def values(report: Report) -> dict[tuple[str, str], list[tuple[dict[str, str], float]]]:
    return {
        (it.name, it.type): [(labels, value) for _, labels, value in it.samples] for it in report
    }


ONE = [
    family("broadcast_connections", "gauge", 3),
    family("broadcast_connections", "counter", 10, suffix="_total", result="ok"),
    family("broadcast_queue_max_bytes", "gauge", 7),
    family("broadcast_max_connections", "gauge", 100),
    family("broadcast_topics", "gauge", 5),
    family("process_cpu_seconds", "counter", 1.5, suffix="_total"),
    Family(
        "broadcast_lag_seconds",
        "",
        "histogram",
        [
            ("broadcast_lag_seconds_bucket", {"le": "0.1"}, 1),
            ("broadcast_lag_seconds_bucket", {"le": "+Inf"}, 2),
            ("broadcast_lag_seconds_sum", {}, 0.5),
        ],
    ),
]
TWO = [
    family("broadcast_connections", "gauge", 4),
    family("broadcast_connections", "counter", 5, suffix="_total", result="ok"),
    family("broadcast_queue_max_bytes", "gauge", 2),
]


def test_counters_gauges_and_histograms_are_added() -> None:
    found = values(total([ONE, TWO, ONE]))
    assert found["broadcast_connections", "gauge"] == [({}, 10)]
    assert found["broadcast_connections", "counter"] == [({"result": "ok"}, 25)]
    assert found["broadcast_lag_seconds", "histogram"] == [
        ({"le": "0.1"}, 2),
        ({"le": "+Inf"}, 4),
        ({}, 1.0),
    ]


def test_of_some_gauges_the_largest_counts() -> None:
    assert values(total([TWO, ONE]))["broadcast_queue_max_bytes", "gauge"] == [({}, 7)]


def test_values_that_a_sum_would_hide_have_their_worker() -> None:
    found = values(total([of_worker(ONE, 1), of_worker(ONE, 2)]))
    assert found["broadcast_topics", "gauge"] == [({"worker": "1"}, 5), ({"worker": "2"}, 5)]
    assert found["process_cpu_seconds", "counter"] == [
        ({"worker": "1"}, 1.5),
        ({"worker": "2"}, 1.5),
    ]
    assert found["broadcast_connections", "gauge"] == [({}, 6)]


def test_of_a_replaced_worker_its_clients_and_counts_remain() -> None:
    assert values(of_replaced(ONE)).keys() == {
        ("broadcast_connections", "gauge"),
        ("broadcast_connections", "counter"),
        ("broadcast_queue_max_bytes", "gauge"),
        ("broadcast_lag_seconds", "histogram"),
    }


def test_of_an_ended_worker_its_counts_remain() -> None:
    assert values(of_ended(ONE)).keys() == {
        ("broadcast_connections", "counter"),
        ("broadcast_lag_seconds", "histogram"),
    }
