"""docs/metrics.md, held against what the server exports."""

from pathlib import Path

from handlers.families import PlainFamilies
from handlers.keys import REGISTRY
from hub.redis.address import parse_redis_address
from hub.reports import Limit
from hub.settings import Settings
from server import build_app
from tests.support.markdown import code, prose, section, table
from workers.group import Group
from workers.totals import BY_WORKER, BY_WORKER_PREFIXES, LARGEST

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/metrics.md").read_text()

Labels = dict[str, list[str]]  # the values of each label


async def exported() -> dict[str, tuple[str, Labels]]:
    """Return the type and labels of each metric of a process and of a parent, by name."""
    app = build_app(Settings(redis_addr=parse_redis_address("127.0.0.1:1")))
    parent = PlainFamilies(await Group(2).metrics())
    found: dict[str, tuple[str, Labels]] = {}
    for family in (*app[REGISTRY].collect(), *parent.collect()):
        labels: dict[str, dict[str, None]] = {}
        for sample in family.samples:
            for label, value in sample.labels.items():
                labels.setdefault(label, {})[value] = None
        labels.pop("le", None)
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        kind = "gauge" if family.type == "info" else family.type
        found[family.name + suffix] = kind, {name: list(them) for name, them in labels.items()}
    return found


def documented() -> dict[str, tuple[str, Labels]]:
    found = {}
    for name, kind, labels, _ in table(TEXT, "Names"):
        parts = [code(part) for part in labels.split(";") if part]
        (metric,) = code(name)
        found[metric] = kind, {label: values for label, *values in parts}
    return found


async def test_the_table_has_every_metric_with_its_type_and_labels() -> None:
    metrics = {name: it for name, it in (await exported()).items() if name.startswith("broadcast_")}
    del metrics["broadcast_build_info"][1]["version"][:]  # any
    assert documented() == metrics


async def test_the_text_has_the_other_metrics_and_there_are_no_more() -> None:
    others = {name for name in (await exported()) if not name.startswith("broadcast_")}
    after = section(TEXT, "Names").rpartition("|\n")[2]
    assert {it for it in code(prose(after)) if not it.startswith("broadcast_")} == others


def test_each_limit_of_the_protocol_that_has_a_setting_is_counted() -> None:
    protocol = (ROOT / "docs/protocol.md").read_text()
    named = {name for limit, _ in table(protocol, "Limits") for name in code(limit)[:1]}
    counted = {str(it) for it in Limit if it.isupper()} - {Limit.HISTORY_TOTAL_BYTES}
    assert {it for it in named if it.isupper()} == counted


async def test_no_metric_has_a_label_by_topic_or_client() -> None:
    labels = {label for _, them in (await exported()).values() for label in them}
    assert labels == {
        "action",
        "cause",
        "generation",
        "limit",
        "reason",
        "recovered",
        "result",
        "source",
        "state",
        "transport",
        "type",
        "version",
    }


def test_the_text_says_which_metrics_are_not_added() -> None:
    label, largest = (
        {it for it in code(text) if it.startswith(("broadcast_", "process_", "python_"))}
        for text in reversed(section(TEXT, "Workers").split("Where a sum would hide"))
    )
    assert label == BY_WORKER | {*BY_WORKER_PREFIXES}
    assert {it.removesuffix("_info") for it in largest} == LARGEST
