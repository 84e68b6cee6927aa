"""The runbook of docs/operations.md, held against alerts, log and metrics; its commands are run."""

import asyncio
import logging
import re
import shlex
from pathlib import Path

import pytest
import yaml

from hub.errors import ErrorCode, RequestRefusal
from hub.logs import events
from hub.logs.events import Event
from hub.settings import SETTINGS
from tests.support.markdown import blocks, code, section, table
from tests.support.programs import find
from tests.support.prometheus import DEPLOY, started

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/operations.md").read_text()
ALERTS = [
    rule["alert"]
    for rule in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"][0]["rules"]
]
COMMANDS = [
    line for block in blocks(section(TEXT, "Watch")) if block.tag == "sh" for line in block.lines
]


def test_the_runbook_has_every_alert_in_order() -> None:
    assert re.findall(r"(?m)^### (.*)$", section(TEXT, "Alerts")) == ALERTS


@pytest.mark.parametrize("alert", ALERTS)
def test_the_runbook_says_something_about_an_alert(alert: str) -> None:
    assert len(section(TEXT, alert).split()) > 20


def test_the_runbook_has_every_line_from_warning_up_in_order() -> None:
    lines = [
        it.name
        for it in vars(events).values()
        if isinstance(it, Event) and it.level >= logging.WARNING
    ]
    assert [line for line, _ in table(TEXT, "Log")] == lines


def test_the_runbook_has_every_metric_in_order() -> None:
    documented = table((ROOT / "docs/metrics.md").read_text(), "Names")
    assert [row[0] for row in table(TEXT, "Metrics")] == [row[0] for row in documented]


def test_every_setting_metric_and_line_that_it_names_exists() -> None:
    metrics = {code(row[0])[0] for row in table((ROOT / "docs/metrics.md").read_text(), "Names")}
    assert set(re.findall(r"\bbroadcast_\w+", TEXT)) <= metrics
    names = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=\w+)?`", TEXT))
    assert names - {*ErrorCode, *RequestRefusal} <= {it.name for it in SETTINGS}


def test_the_links_within_it_have_a_target() -> None:
    headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"(?m)^#+ (.*)$", TEXT)}
    assert set(re.findall(r"\(#([^)]+)\)", TEXT)) <= headings


def test_every_command_is_run() -> None:
    assert [shlex.split(it)[0] for it in COMMANDS] == [
        "METRICS_PORT=9464",
        "prometheus",
        "promtool",
        "promtool",
    ]


@pytest.mark.parametrize("command", COMMANDS[2:])
async def test_the_rules_pass(command: str) -> None:
    program, *arguments = shlex.split(command)
    process = await asyncio.create_subprocess_exec(find(program), *arguments, cwd=ROOT)
    assert await process.wait() == 0


def test_the_server_and_prometheus_use_the_same_port() -> None:
    assert COMMANDS[0] == "METRICS_PORT=9464 make run"
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["127.0.0.1:9464"]}]


async def test_prometheus_starts_with_the_files_as_they_are(tmp_path: Path) -> None:
    _, *arguments = shlex.split(COMMANDS[1].replace("/tmp/prometheus", f"{tmp_path}/data"))
    async with started(tmp_path, *arguments) as watcher:
        (group,) = (await watcher.ask("rules"))["groups"]
        assert len(group["rules"]) == len(ALERTS)
