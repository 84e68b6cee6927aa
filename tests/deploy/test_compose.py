"""The Compose file, which is checked without a container engine."""

import re

import yaml

from hub.settings import Settings
from tests.support.process import ROOT

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVER, REDIS = COMPOSE["services"]["server"], COMPOSE["services"]["redis"]


def test_compose_starts_the_server_after_redis() -> None:
    assert set(COMPOSE) == {"services"}, "`version` is obsolete"
    assert SERVER["build"] == "."
    assert SERVER["ports"] == ["8080:8080"]
    assert SERVER["environment"] == {"REDIS_ADDR": "redis:6379"}
    assert SERVER["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert REDIS["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert "ports" not in REDIS, "nobody outside may reach it"
    assert "healthcheck" not in SERVER, "the image has one"


def test_compose_waits_longer_than_the_shutdown_timeout() -> None:
    grace = re.fullmatch(r"(\d+)s", SERVER["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > Settings().shutdown_timeout


def test_compose_gives_the_server_minimal_rights() -> None:
    assert SERVER["read_only"] is True
    assert SERVER["cap_drop"] == ["ALL"]
    assert SERVER["security_opt"] == ["no-new-privileges:true"]
    assert SERVER["restart"] == "unless-stopped"
