"""The files of deploy/prometheus/ and deploy/grafana/, with a real Prometheus."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import ClientSession
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.support.markdown import code, table
from tests.support.programs import find
from tests.support.prometheus import DEPLOY, Prometheus, prometheus
from tests.support.redis import redis_server
from tests.support.server import Running
from tests.support.workers import server_with_workers

ROOT = Path(__file__).parents[2]
METRICS = {
    name: kind for (name, kind, *_) in table((ROOT / "docs/metrics.md").read_text(), "Names")
}
RULES = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
UNIT_TESTS = yaml.safe_load((DEPLOY / "alerts.test.yml").read_text())["tests"]
DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
# The alerts that tell of a slow machine, which may be that of the test.
SLOWNESS = {"BroadcastLoopBlocked", "BroadcastOverloaded", "BroadcastRedisSlow"}


def metrics_in(text: str) -> set[str]:
    """Return our metrics that a text names; a histogram is named by its series."""
    return {
        re.sub(r"_seconds_(bucket|count|sum)$", "_seconds", name)
        for name in re.findall(r"\bbroadcast_\w+", text)
    }


# --- Rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ],
)
async def test_promtool_accepts(arguments: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        find("promtool"),
        *arguments,
        cwd=DEPLOY,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


async def test_promtool_finds_no_bad_name_or_text(server: Running) -> None:
    async with ClientSession(server.url) as session, session.get("/metrics") as answer:
        text = await answer.read()
    process = await asyncio.create_subprocess_exec(
        find("promtool"),
        "check",
        "metrics",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(text)
    assert (process.returncode, said) == (0, b"")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_each_alert_is_tested_in_both_directions_and_says_what_to_do(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    tests = [it for test in UNIT_TESTS for it in test["alert_rule_test"] if it["alertname"] == name]
    assert {bool(it.get("exp_alerts")) for it in tests} == {True, False}
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_alerts_use_only_metrics_that_exist() -> None:
    documented = {code(name)[0] for name in METRICS}
    for rule in RULES:
        assert metrics_in(rule["expr"]) <= documented


# --- Dashboard ------------------------------------------------------------------------------------


def queries() -> list[str]:
    """Return the queries of all panels, as Grafana sends them."""
    found = [sent(it) for panel in DASHBOARD["panels"] for it in panel.get("targets", ())]
    assert found
    return found


def sent(target: dict[str, Any]) -> str:
    """Return a query as Grafana sends it."""
    query: str = target["expr"]
    return query.replace("$instance", ".*").replace("$__rate_interval", "1m")


def legend(target: dict[str, Any], labels: dict[str, str]) -> str:
    """Return the name of a line, as Grafana makes it of the labels of a series."""
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), target["legendFormat"])


def lost(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the places of a JSON value that another one has not."""
    if isinstance(before, dict):
        for name, value in before.items():
            if isinstance(after, dict) and name in after:
                yield from lost(value, after[name], f"{path}/{name}")
            else:
                yield f"{path}/{name}"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from lost(old, new, f"{path}/{number}")
    elif before != after:
        yield path


def understood(dashboard: Any) -> Any:
    """Return what Grafana's own types understand of a dashboard."""
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


def test_the_types_of_grafana_understand_the_whole_dashboard() -> None:
    assert list(lost(DASHBOARD, understood(DASHBOARD))) == []


def test_a_misspelled_field_of_a_dashboard_is_found() -> None:
    wrong = json.loads(json.dumps(DASHBOARD).replace('"gridPos"', '"gridpos"'))
    assert "/panels/0/gridpos" in list(lost(wrong, understood(wrong)))


def test_panels_have_their_own_ids_and_places() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    shown = {name for query in queries() for name in metrics_in(query)}
    assert shown == {code(name)[0] for name in METRICS}


# --- A real Prometheus ----------------------------------------------------------------------------


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scraped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prometheus]:
    """A Prometheus that has scraped a server with workers, which has every metric."""
    with redis_server() as redis:
        async with (
            server_with_workers(redis.port) as server,
            prometheus(tmp_path_factory.mktemp("prometheus"), server.port) as scraped,
        ):
            await scraped.until_scraped(4)
            yield scraped


@pytest.mark.asyncio(loop_scope="module")
async def test_it_takes_every_metric_with_its_type(scraped: Prometheus) -> None:
    kinds = await scraped.ask("metadata")
    for name, kind in METRICS.items():
        (metric,) = code(name)
        assert await scraped.query(f"{metric}_bucket" if kind == "histogram" else metric), metric
        # As in OpenMetrics, where a counter's family has no `_total`, and this one has no type.
        family = metric.removesuffix("_info")
        if metric == "broadcast_connections_total":
            kind = "unknown"
        else:
            family = family.removesuffix("_total")
        (found,) = kinds[family]
        assert found["type"] == ("info" if metric.endswith("_info") else kind)


@pytest.mark.asyncio(loop_scope="module")
async def test_it_loads_every_rule_without_a_mistake(scraped: Prometheus) -> None:
    (group,) = (await scraped.ask("rules"))["groups"]
    assert [rule["name"] for rule in group["rules"]] == [rule["alert"] for rule in RULES]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    alerts = (await scraped.ask("alerts"))["alerts"]
    assert {it["labels"]["alertname"] for it in alerts} <= SLOWNESS


@pytest.mark.parametrize("query", queries())
@pytest.mark.asyncio(loop_scope="module")
async def test_each_query_of_the_dashboard_has_a_series(scraped: Prometheus, query: str) -> None:
    assert await scraped.query(query)


@pytest.mark.parametrize(
    "panel",
    [it for it in DASHBOARD["panels"] if it["type"] == "timeseries"],
    ids=lambda panel: str(panel["title"]),
)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_lines_of_a_panel_have_different_names(
    scraped: Prometheus, panel: dict[str, Any]
) -> None:
    names = [
        legend(it, series["metric"])
        for it in panel["targets"]
        for series in await scraped.query(sent(it))
    ]
    assert len(names) == len(set(names)), names


@pytest.mark.asyncio(loop_scope="module")
async def test_the_variable_of_the_dashboard_has_a_value(scraped: Prometheus) -> None:
    instance = DASHBOARD["templating"]["list"][1]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", instance["query"])
    assert found is not None
    assert await scraped.ask(f"label/{found[2]}/values", **{"match[]": found[1]})
