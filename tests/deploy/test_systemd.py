"""The systemd unit, checked by systemd-analyze; `make test-installed` starts it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hub.settings import SETTINGS, Settings
from tests.support.patience import PATIENCE
from tests.support.process import ROOT
from tests.support.programs import find
from tests.support.variables import variables

FOLDER = ROOT / "deploy/systemd"
UNIT = FOLDER / "broadcast@.service"
DROP_IN = FOLDER / "redis.conf"
WORKERS = FOLDER / "workers.conf"
# The worst exposure that the tests accept, from 0 to 10. An unconfined service has 9.6.
EXPOSURE = 1.5


def values(path: Path, key: str) -> list[str]:
    """Return the values that a unit file gives to a key, in order."""
    return re.findall(rf"(?m)^{key}=(.*)$", path.read_text())


def environment(path: Path) -> dict[str, str]:
    """Return the variables that a unit file sets."""
    words = " ".join(values(path, "Environment")).split()
    return dict(word.split("=", 1) for word in words)


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [find("systemd-analyze"), "--no-pager", *arguments],
        env=os.environ | {"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """Return a copy of the unit with its drop-in, for a Python that this machine has."""
    text = UNIT.read_text()
    assert text.count("/opt/broadcast/.venv/bin/python") == 1
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace("/opt/broadcast/.venv/bin/python", sys.executable))
    drop_ins = tmp_path / f"{UNIT.name}.d"
    drop_ins.mkdir()
    shutil.copy(DROP_IN, drop_ins)
    shutil.copy(WORKERS, drop_ins)
    return copy


def test_systemd_accepts_the_unit_and_its_drop_ins(unit: Path) -> None:
    result = analyze("verify", "--man=no", str(unit))
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "complaint"),
    [("LimitNOFILES=1", "Unknown key 'LimitNOFILES'"), ("KillSignal=SIGNONE", "SIGNONE")],
)
def test_systemd_complains_about_a_mistake(unit: Path, line: str, complaint: str) -> None:
    """It does so in its output; the exit code does not tell."""
    unit.write_text(unit.read_text().replace("LimitNOFILE=65536", line))
    assert complaint in analyze("verify", "--man=no", str(unit)).stderr


def test_the_unit_gives_the_server_minimal_rights() -> None:
    result = analyze("security", "--offline=true", f"--threshold={EXPOSURE * 10:g}", str(UNIT))
    assert result.returncode == 0, result.stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert found is not None
    assert float(found[1]) <= EXPOSURE


@pytest.mark.parametrize("path", [UNIT, DROP_IN, WORKERS], ids=lambda path: path.name)
def test_the_unit_sets_settings_that_exist(path: Path) -> None:
    assert set(environment(path)) <= variables()


@pytest.mark.parametrize("path", [UNIT, DROP_IN], ids=lambda path: path.name)
def test_each_secret_is_loaded_from_its_own_file(path: Path) -> None:
    loaded = dict(value.split(":", 1) for value in values(path, "LoadCredential"))
    assert loaded
    assert loaded == {name: f"/etc/broadcast/{name}" for name in loaded}
    used = {key: value for key, value in environment(path).items() if key.endswith("_FILE")}
    assert used == {f"{name.upper().replace('-', '_')}_FILE": f"%d/{name}" for name in loaded}


def test_the_port_is_that_of_the_instance() -> None:
    (command,) = values(UNIT, "ExecStart")
    assert command.endswith(" server.py --port %i")
    assert "--port" in {setting.option for setting in SETTINGS}


def test_systemd_waits_longer_than_the_shutdown_timeout() -> None:
    (timeout,) = values(UNIT, "TimeoutStopSec")
    assert int(timeout) > Settings().shutdown_timeout
    assert values(UNIT, "KillSignal") == ["SIGTERM"]
