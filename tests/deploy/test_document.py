"""docs/installation.md: each of its commands is run or checked by a test."""

import re
import shlex
from argparse import ArgumentParser

import pytest
import yaml

from tests.support.go_tools import go_tool
from tests.support.markdown import blocks, section
from tests.support.process import ROOT

DOCUMENT = (ROOT / "docs/installation.md").read_text()
# Sections with commands, and the tests that follow or check them.
TESTS = {
    "systemd": "tests/installed/test_systemd.py",
    "Docker Compose": "tests/deploy/test_document.py",
    "Kubernetes": "tests/deploy/test_document.py",
}
COMPOSE = section(DOCUMENT, "Docker Compose")
KUBERNETES = section(DOCUMENT, "Kubernetes")


def commands(text: str) -> list[list[str]]:
    lines = [line for block in blocks(text) if block.tag == "sh" for line in block.lines]
    return [shlex.split(line) for line in lines]


def test_every_section_with_commands_has_a_test() -> None:
    sections = re.findall(r"(?ms)^## (.*?)$(.*?)(?=^## |\Z)", DOCUMENT)
    assert {title for title, text in sections if commands(text)} == set(TESTS)
    for title, test in TESTS.items():
        assert f'"{title}")' in (ROOT / test).read_text()


@pytest.mark.parametrize("command", commands(COMPOSE), ids=" ".join)
def test_compose_accepts_the_files_of_a_command(command: list[str]) -> None:
    assert command[:2] == ["docker", "compose"]
    parser = ArgumentParser()
    parser.add_argument("-f", action="append", dest="files")
    parser.add_argument("--profile", default="")
    parser.add_argument("command", choices=["up"])
    parser.add_argument("--detach", action="store_true")
    parser.add_argument("--scale", default="")
    given = parser.parse_args(command[2:])
    files = given.files or ["docker-compose.yml"]
    options = [f"-profile={given.profile}", f"-scale={given.scale}"]
    assert go_tool("compose-check", *options, *files).stderr == ""


def test_the_commands_of_kubectl_are_for_these_manifests() -> None:
    create, apply, rollout = commands(KUBERNETES)
    pod = yaml.safe_load((ROOT / "deploy/kubernetes/deployment.yaml").read_text())
    spec = pod["spec"]["template"]["spec"]
    files = [
        it["value"].rpartition("/")[2]
        for it in spec["containers"][0]["env"]
        if it["name"].endswith("_FILE")
    ]
    (volume,) = spec["volumes"]
    assert create[:4] == ["kubectl", "create", "secret", "generic"]
    assert create[4] == volume["secret"]["secretName"]
    assert sorted(create[5:]) == sorted(f"--from-file=secrets/{name}" for name in files)
    assert apply[:3] == ["kubectl", "apply", "-k"]
    assert go_tool("kustomize", "build", apply[3]).returncode == 0
    name = pod["metadata"]["name"]
    assert rollout == ["kubectl", "rollout", "status", f"deployment/{name}"]


@pytest.mark.parametrize("name", ["redis-addr", "api-keys", "jwt-secret"])
def test_the_tutorial_or_the_section_makes_each_secret(name: str) -> None:
    tutorial = section((ROOT / "docs/tutorial.md").read_text(), "Secure it")
    assert f"secrets/{name}" in (KUBERNETES if name == "redis-addr" else tutorial)
