"""The Compose files, as Compose's own parser resolves them, without a container engine."""

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.settings import Settings, read_settings
from tests.support.dockerfile import FINAL
from tests.support.go_tools import go_tool
from tests.support.process import ROOT
from tests.support.programs import find
from tests.support.variables import variables

BASE = "docker-compose.yml"
SECURED = "deploy/compose/secured.yml"
SCALED = "deploy/compose/scaled.yml"
MONITORING = "monitoring"
# The ways in which operators start Compose: the files, and the profile.
WAYS: dict[str, tuple[list[str], str]] = {
    "alone": ([BASE], ""),
    "monitored": ([BASE], MONITORING),
    "secured": ([BASE, SECURED], ""),
    "scaled": ([BASE, SCALED], ""),
    "all": ([BASE, SECURED, SCALED], MONITORING),
}
SCALED_FILES = WAYS["scaled"][0]
IMAGE_TAG = re.compile(r"[\w./-]+:v?\d[\w.-]*")

Project = dict[str, Any]


def resolved(
    files: Sequence[str | Path], *, profile: str = "", scale: str = "", **environ: str
) -> Project:
    """Return the project that Compose makes of these files."""
    arguments = [f"-profile={profile}", f"-scale={scale}", *map(str, files)]
    result = go_tool("compose-check", *arguments, **environ)
    assert result.returncode == 0, result.stderr
    project: Project = json.loads(result.stdout)
    return project


@pytest.fixture(params=WAYS)
def project(request: pytest.FixtureRequest) -> Project:
    files, profile = WAYS[request.param]
    return resolved(files, profile=profile)


def settings_of(project: Project, folder: Path) -> Settings:
    """Read the settings of the server as it does; `folder` takes the place of /run/secrets."""
    environ = {
        key: value.replace("/run/secrets", str(folder))
        for key, value in project["services"]["server"]["environment"].items()
    }
    return read_settings(environ)


# --- Every service --------------------------------------------------------------------------------


def test_compose_rejects_unknown_keys(tmp_path: Path) -> None:
    wrong = tmp_path / BASE
    wrong.write_text((ROOT / BASE).read_text().replace("stop_grace_period", "stop_grace"))
    result = go_tool("compose-check", str(wrong))
    assert result.returncode == 1
    assert "stop_grace" in result.stderr


def test_every_service_has_minimal_rights_and_comes_back(project: Project) -> None:
    for name, service in project["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service or name == "nginx", name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == "unless-stopped", name


def test_every_image_has_a_version(project: Project) -> None:
    for name, service in project["services"].items():
        if "build" not in service:
            assert IMAGE_TAG.fullmatch(service["image"]), name


def test_every_mounted_file_is_in_the_tree(project: Project) -> None:
    for service in project["services"].values():
        for volume in service.get("volumes", ()):
            assert volume["type"] != "bind" or Path(volume["source"]).exists(), volume["source"]


def test_one_port_is_published_to_other_machines(project: Project) -> None:
    published = {
        name: (port["published"], port["target"])
        for name, service in project["services"].items()
        for port in service.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    }
    exposed = int(FINAL.one("EXPOSE"))
    scaled = "nginx" in project["services"]
    assert published == ({"nginx": ("8080", 80)} if scaled else {"server": ("8080", exposed)})


# --- The server -----------------------------------------------------------------------------------


def test_the_server_starts_after_redis(project: Project) -> None:
    server, redis = project["services"]["server"], project["services"]["redis"]
    assert server["build"]["context"] == str(ROOT)
    assert server["depends_on"]["redis"]["condition"] == "service_healthy"
    assert redis["healthcheck"]["test"] == ["CMD", "redis-cli", "ping"]
    assert "healthcheck" not in server, "the image has one"


def test_the_settings_exist_and_are_valid(project: Project, tmp_path: Path) -> None:
    environ = project["services"]["server"]["environment"]
    assert set(environ) - {"REDIS_ADDR"} <= variables()
    secrets = {"api-keys": "app:0123456789abcdef", "jwt-secret": "0123456789abcdef" * 2}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
    settings = settings_of(project, tmp_path)
    assert settings.port == int(FINAL.one("EXPOSE"))
    assert settings.redis_addr is not None
    assert settings.access_on is ("secrets" in project)


def test_each_secret_file_is_mounted(project: Project) -> None:
    server = project["services"]["server"]
    files = {value for key, value in server["environment"].items() if key.endswith("_FILE")}
    assert files == {it["target"] for it in server.get("secrets", ())}
    for name, secret in project.get("secrets", {}).items():
        assert secret["file"] == str(ROOT / "secrets" / name)


def test_compose_waits_longer_than_the_shutdown_timeout(project: Project) -> None:
    grace = re.fullmatch(r"(\d+)s", project["services"]["server"]["stop_grace_period"])
    assert grace is not None
    assert int(grace[1]) > Settings().shutdown_timeout


def test_the_server_may_open_many_descriptors(project: Project) -> None:
    assert project["services"]["server"]["ulimits"] == {"nofile": 65_536}


def test_an_env_file_has_settings_and_the_published_port(tmp_path: Path) -> None:
    shutil.copy(ROOT / BASE, tmp_path)
    (tmp_path / ".env").write_text(
        "PORT=9000\nHOST=127.0.0.1\nMAX_TOPICS=7\nREDIS_ADDR=redis://elsewhere\n"
    )
    project = resolved([tmp_path / BASE])
    (port,) = project["services"]["server"]["ports"]
    assert (port["published"], port["target"]) == ("9000", 8080)
    settings = settings_of(project, tmp_path)
    assert (settings.host, settings.port, settings.max_topics) == ("0.0.0.0", 8080, 7)
    assert settings.redis_addr is not None
    assert settings.redis_addr.hosts == (("elsewhere", 6379),)


# --- Several servers ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_any_number_of_servers_is_possible(number: int) -> None:
    project = resolved(SCALED_FILES, scale=f"server={number}")
    server = project["services"]["server"]
    assert server.get("scale", 1) == number
    # Two containers cannot share a name or a published port.
    assert "container_name" not in server
    assert "ports" not in server


def test_compose_rejects_two_containers_of_one_name(tmp_path: Path) -> None:
    named = tmp_path / "named.yml"
    named.write_text("services:\n  server:\n    container_name: server\n")
    result = go_tool("compose-check", *SCALED_FILES, str(named))
    assert result.returncode == 1
    assert "container_name" in result.stderr


def test_nginx_has_its_files_and_names_the_servers(tmp_path: Path) -> None:
    services = resolved(SCALED_FILES)["services"]
    mounted = {it["target"]: Path(it["source"]) for it in services["nginx"]["volumes"]}
    assert all(it["read_only"] for it in services["nginx"]["volumes"])
    folder = tmp_path / "nginx"
    for target, source in mounted.items():
        (tmp_path / target.removeprefix("/etc/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tmp_path / target.removeprefix("/etc/"))
    servers = folder / "servers.conf"
    assert re.findall(r"(?m)^server ([\w-]+):(\d+) ", servers.read_text()) == [
        ("server", FINAL.one("EXPOSE"))
    ]
    assert services["nginx"]["depends_on"]["server"] == {
        "condition": "service_healthy",
        "restart": True,
        "required": True,
    }
    # Only Docker knows the name, and only root may listen and log where nginx does there.
    replaced = {"server:": "localhost:", "/var/log/nginx": str(folder), "/run": str(folder)}
    for file in folder.glob("**/*.conf"):
        text = file.read_text()
        for shown, here in replaced.items():
            text = text.replace(shown, here)
        file.write_text(text)
    command = [find("nginx"), "-t", "-p", folder, "-c", folder / "nginx.conf"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "test is successful" in result.stderr, result.stderr


def test_the_servers_trust_nginx(tmp_path: Path) -> None:
    networks = settings_of(resolved(SCALED_FILES), tmp_path).trusted_proxies
    for address in ("172.17.0.2", "172.31.255.9", "192.168.0.2"):
        assert any(ip_address(address) in network for network in networks)


# --- Monitoring -----------------------------------------------------------------------------------


def mounts_of(service: dict[str, Any]) -> dict[str, Path]:
    """Return the files that a service mounts, by their paths in it."""
    return {it["target"]: Path(it["source"]) for it in service["volumes"] if it["type"] == "bind"}


def parsed(service: dict[str, Any], path: str) -> Any:
    return yaml.safe_load(mounts_of(service)[path].read_text())


@pytest.fixture
def monitored() -> dict[str, Any]:
    services: dict[str, Any] = resolved([BASE], profile=MONITORING)["services"]
    return services


def test_monitoring_is_a_profile() -> None:
    assert set(resolved([BASE])["services"]) == {"server", "redis"}


def test_prometheus_finds_every_server(monitored: dict[str, Any]) -> None:
    config = parsed(monitored["prometheus"], "/etc/prometheus/prometheus.yml")
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    (name,) = found["names"]
    environ = monitored[name]["environment"]
    assert environ["METRICS_PORT"] == str(found["port"])
    assert environ["METRICS_HOST"] == "0.0.0.0"
    # The alerts are for this job.
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    assert [job["job_name"]] == [it["job_name"] for it in shipped["scrape_configs"]]
    assert config["rule_files"] == shipped["rule_files"]


def test_promtool_accepts_the_mounted_files(monitored: dict[str, Any], tmp_path: Path) -> None:
    program = find("promtool")
    for target, source in mounts_of(monitored["prometheus"]).items():
        shutil.copy(source, tmp_path / Path(target).name)
    command = [program, "check", "config", tmp_path / "prometheus.yml"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "rules found" in result.stdout


def test_grafana_finds_prometheus_and_the_dashboard(monitored: dict[str, Any]) -> None:
    grafana = monitored["grafana"]
    folder = "/etc/grafana/provisioning"
    (source,) = parsed(grafana, f"{folder}/datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    assert source["url"] == "http://prometheus:9090"
    (provider,) = parsed(grafana, f"{folder}/dashboards/broadcast.yml")["providers"]
    (dashboard,) = (it for it in mounts_of(grafana) if it.endswith(".json"))
    assert str(Path(dashboard).parent) == provider["options"]["path"]
    assert json.loads(mounts_of(grafana)[dashboard].read_text())["title"]
