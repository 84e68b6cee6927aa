"""The two plots of bench/README.md."""

from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from figures import values
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator
from servers import BENCH

OURS, OTHERS, FLOOR = "#2456d6", "#9aa5b8", "#d8dde6"
SIZE = (11, 4.2)  # inches


def draw(result: dict[str, Any]) -> None:
    """Write both plots into bench/results, under the names that the README uses."""
    note = f"{result['date']}, {result['machine']['cpu']}, one core for the server, medians"
    _bars(result, note)
    _lines(result, note)


def _bars(result: dict[str, Any], note: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=SIZE, layout="constrained")
    for axis, key, what in (
        (axes[0], "fanout", "1 message in flight"),
        (axes[1], "fanout-16", "16 messages in flight"),
    ):
        _bar(axis, result, key, what)
    figure.suptitle("Deliveries a second to 1,000 subscribers", fontsize=11)
    figure.supxlabel(f"beside each bar: CPU µs per delivery; {note}", fontsize=8)
    figure.savefig(BENCH / "results/fanout.png", dpi=110)
    plt.close(figure)


def _bar(axis: Axes, result: dict[str, Any], key: str, title: str) -> None:
    rates = {}
    for name in result["titles"]:
        found = values(result, key, name, "per_second")
        if found:
            rates[name] = median(found)
    names = sorted(rates, key=rates.__getitem__)
    colours = [OURS if n == "ours" else FLOOR if n.startswith("floor") else OTHERS for n in names]
    bars = axis.barh([result["titles"][n] for n in names], [rates[n] for n in names], color=colours)
    costs = [f"{median(values(result, key, name, 'server_us')):.2f} µs" for name in names]
    axis.bar_label(bars, costs, padding=3, fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
    axis.margins(x=0.18)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)


def _lines(result: dict[str, Any], note: str) -> None:
    figure, axes = plt.subplots(1, 2, figsize=SIZE, layout="constrained")
    latencies = {conns: (f"latency-{conns}", "p99_ms", 1.0) for conns in (100, 1_000, 10_000)}
    memory = {
        1_000: ("idle-1k", "rss_per_connection", 1_024.0),
        10_000: ("idle-10k", "rss_per_connection", 1_024.0),
    }
    _line(axes[0], result, latencies, "p99 latency in ms, 10,000 deliveries a second")
    _line(axes[1], result, memory, "KB RSS per idle subscriber")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right", fontsize=7)
    figure.supxlabel(f"connections; {note}", fontsize=8)
    figure.savefig(BENCH / "results/connections.png", dpi=110)
    plt.close(figure)


def _line(
    axis: Axes, result: dict[str, Any], points: dict[int, tuple[str, str, float]], title: str
) -> None:
    for name, label in result["titles"].items():
        places, heights = [], []
        for conns, (key, figure, unit) in points.items():
            found = values(result, key, name, figure)
            if found:
                places.append(conns)
                heights.append(median(found) / unit)
        if places and not name.startswith("floor"):
            style = {"color": OURS, "linewidth": 2.5, "zorder": 3} if name == "ours" else {}
            axis.plot(places, heights, marker="o", markersize=4, label=label, **style)
    for scale, values_of in ((axis.xaxis, points), (axis.yaxis, (0.2, 0.5, 1, 2, 5, 10, 20, 50))):
        scale.axes.set(**{f"{scale.axis_name}scale": "log"})
        scale.set_major_locator(FixedLocator(list(values_of)))
        scale.set_minor_locator(NullLocator())
        scale.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_title(title, fontsize=9)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
