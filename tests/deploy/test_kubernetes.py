"""The Kubernetes manifests: checked against the schemas of Kubernetes and the code."""

import math
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from handlers.routes import ROUTES
from hub.protocol.http_requests import MAX_BATCH_BYTES
from hub.settings import Settings, read_settings
from hub.version import VERSION
from tests.support.dockerfile import FINAL
from tests.support.go_tools import go_tool
from tests.support.process import ROOT
from tests.support.variables import variables

FOLDER = ROOT / "deploy/kubernetes"
OVERLAY = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS = {
    path.stem: yaml.safe_load(path.read_text())
    for path in sorted(FOLDER.glob("*.yaml"))
    if path.stem != "kustomization"
}
DEPLOYMENT = MANIFESTS["deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]
ENVIRON = {it["name"]: it["value"] for it in CONTAINER["env"]}
PORTS = {it["name"]: it["containerPort"] for it in CONTAINER["ports"]}
# The oldest and the newest version of Kubernetes that the manifests are checked for.
VERSIONS = ("1.31", "1.37")


def without_files() -> Settings:
    """Return the settings of the pod, as the server reads them, without its secrets."""
    return read_settings({key: it for key, it in ENVIRON.items() if not key.endswith("_FILE")})


# --- The schemas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_keeps_the_schema(name: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[name], version, strict=True)


def test_the_schema_knows_no_other_keys() -> None:
    manifest = deepcopy(MANIFESTS["deployment"])
    manifest["spec"]["template"]["spec"]["terminationGracePeriod"] = 40
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGracePeriod"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_the_kustomization_has_all_manifests() -> None:
    assert sorted(OVERLAY["resources"]) == [f"{name}.yaml" for name in MANIFESTS]


def test_kustomize_makes_the_manifests_with_the_image() -> None:
    result = go_tool("kustomize", "build", str(FOLDER))
    assert result.returncode == 0, result.stderr
    made = {it["kind"].lower(): it for it in yaml.safe_load_all(result.stdout)}
    (container,) = made["deployment"]["spec"]["template"]["spec"]["containers"]
    assert container.pop("image") == f"registry.example.com/websocket-broadcast:{VERSION}"
    expected = deepcopy(MANIFESTS)
    expected["deployment"]["spec"]["template"]["spec"]["containers"][0].pop("image")
    assert made == expected


# --- The server -----------------------------------------------------------------------------------


def test_the_settings_exist_and_are_valid(tmp_path: Path) -> None:
    assert set(ENVIRON) <= variables()
    environ = dict(ENVIRON)
    secrets = {
        "REDIS_ADDR_FILE": "redis:6379\n",
        "API_KEYS_FILE": "app:0123456789abcdef\n",
        "JWT_SECRET_FILE": "0123456789abcdef0123456789abcdef\n",
    }
    assert {key for key in environ if key.endswith("_FILE")} == set(secrets)
    for key, text in secrets.items():
        file = tmp_path / Path(environ[key]).name
        file.write_text(text)
        environ[key] = str(file)
    settings = read_settings(environ)
    assert settings.access_on
    assert settings.redis_addr is not None


def test_the_pod_ends_later_than_the_server() -> None:
    settings = without_files()
    grace = POD["terminationGracePeriodSeconds"]
    assert grace >= settings.drain_delay + settings.shutdown_timeout
    # Kubernetes removes an endpoint within seconds.
    assert settings.drain_delay == 5


def test_variables_of_other_services_are_not_injected() -> None:
    assert POD["enableServiceLinks"] is False


def test_the_probes_ask_routes_of_the_server() -> None:
    paths = {getattr(route, "path", "") for route in ROUTES}
    probes = {kind: CONTAINER[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness")}
    assert {it["path"] for it in probes.values()} <= paths
    assert probes["liveness"] == {"path": "/live", "port": "http"}
    assert probes["readiness"] == {"path": "/ready", "port": "http"}


def test_the_ports_are_those_of_the_settings() -> None:
    settings = without_files()
    assert {"http": settings.port, "metrics": settings.metrics_port} == PORTS
    annotations = DEPLOYMENT["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(settings.metrics_port)
    (port,) = MANIFESTS["service"]["spec"]["ports"]
    assert port["targetPort"] in PORTS


def test_the_secrets_are_files_that_the_server_may_read() -> None:
    (volume,) = POD["volumes"]
    (mount,) = CONTAINER["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert mount["readOnly"] is True
    files = [Path(it) for key, it in ENVIRON.items() if key.endswith("_FILE")]
    assert {str(file.parent) for file in files} == {mount["mountPath"]}
    assert volume["secret"]["defaultMode"] == 0o440
    assert POD["securityContext"]["fsGroup"] == int(FINAL.one("USER").split(":")[1])


def test_the_pod_has_minimal_rights() -> None:
    """The restricted Pod Security Standard, and a root file system that cannot be written."""
    user, group = map(int, FINAL.one("USER").split(":"))
    rights = POD["securityContext"]
    assert (rights["runAsUser"], rights["runAsGroup"]) == (user, group)
    assert rights["runAsNonRoot"] is True
    assert rights["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False


# --- Several pods ---------------------------------------------------------------------------------


def test_all_manifests_are_for_the_same_pods() -> None:
    labels = DEPLOYMENT["template"]["metadata"]["labels"]
    (spread,) = POD["topologySpreadConstraints"]
    assert DEPLOYMENT["selector"]["matchLabels"] == labels
    assert spread["labelSelector"]["matchLabels"] == labels
    assert MANIFESTS["poddisruptionbudget"]["spec"]["selector"]["matchLabels"] == labels
    assert MANIFESTS["service"]["spec"]["selector"] == labels
    target = MANIFESTS["horizontalpodautoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "broadcast")


def test_the_autoscaler_adds_pods_before_they_are_full() -> None:
    spec = MANIFESTS["horizontalpodautoscaler"]["spec"]
    (metric,) = (it["pods"] for it in spec["metrics"])
    # A test of that document compares it with what a server exports.
    assert f"`{metric['metric']['name']}`" in (ROOT / "docs/metrics.md").read_text()
    assert int(metric["target"]["averageValue"]) <= without_files().max_connections / 2
    assert "replicas" not in DEPLOYMENT
    assert spec["minReplicas"] >= 2


def test_the_ingress_keeps_silent_clients_and_takes_large_batches() -> None:
    ingress = MANIFESTS["ingress"]
    prefix = "nginx.ingress.kubernetes.io/"
    given = {it.removeprefix(prefix): v for it, v in ingress["metadata"]["annotations"].items()}
    settings = without_files()
    for timeout in ("proxy-read-timeout", "proxy-send-timeout"):
        assert int(given[timeout]) > settings.ping_interval
    found = re.fullmatch(r"(\d+)m", given["proxy-body-size"])
    assert found is not None
    assert int(found[1]) == math.ceil(MAX_BATCH_BYTES / 2**20)
    assert given["proxy-buffering"] == "off"
    assert "http_503" in given["proxy-next-upstream"].split()
    (rule,) = ingress["spec"]["rules"]
    backend: Any = rule["http"]["paths"][0]["backend"]["service"]
    (port,) = MANIFESTS["service"]["spec"]["ports"]
    assert backend == {
        "name": MANIFESTS["service"]["metadata"]["name"],
        "port": {"name": port["name"]},
    }
