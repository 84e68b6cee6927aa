"""The steps of docs/installation.md for systemd, followed in a machine; its servers are tried."""

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support.eventually import eventually
from tests.support.frames import CLOSE, client_frame
from tests.support.machine import PATIENCE, Machine, machine
from tests.support.markdown import blocks, section
from tests.support.process import ROOT
from tests.support.raw import HANDSHAKE, RawClient

PLACE = "/opt/broadcast"
STEPS = [it.lines for it in blocks(section((ROOT / "docs/installation.md").read_text(), "systemd"))]
ONE, TWO = "broadcast@8080", "broadcast@8081"


def copy_tree(target: Path) -> None:
    """Copy the files of this repository, also those that are not committed yet."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def follow(it: Machine, steps: list[str]) -> str:
    """Run the commands of a block; packages are installed over the network of this machine.

    Returns:
        The output of the last command.
    """
    output = ""
    for command in steps:
        result = it.run(command, PLACE, outside=command.startswith(("apt-get", "make")))
        assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
        output = result.stdout
    return output


@pytest.fixture(scope="module")
def bare(workshop: Path, debian: Path) -> Iterator[Machine]:
    """A machine with the repository in its place."""
    root = workshop / "machine"
    subprocess.run(["cp", "-a", debian, root], check=True, timeout=PATIENCE)
    copy_tree(root / PLACE[1:])
    # A setting for all servers of the machine; the port is in the name of the unit alone.
    (root / "etc/broadcast").mkdir()
    (root / "etc/broadcast/broadcast.env").write_text("LOG_LEVEL=debug\nPORT=9999\n")
    with machine(root) as it:
        yield it


@pytest.fixture(scope="module")
def started(bare: Machine) -> Machine:
    """The machine after the first steps."""
    assert json.loads(follow(bare, STEPS[0]))["status"] == "ok"
    return bare


@pytest.fixture(scope="module")
def two(started: Machine) -> Machine:
    """The machine after the steps for a second server."""
    follow(started, STEPS[2])
    for port in (8080, 8081):
        started.output(f"curl -sf --retry 9 --retry-connrefused localhost:{port}/ready")
    return started


def main_process(it: Machine, unit: str) -> str:
    return it.output(f"systemctl show --property MainPID --value {unit}")


def key_of(it: Machine) -> str:
    return it.output("cut -d: -f2 /etc/broadcast/api-keys")


@asynccontextmanager
async def subscriber(it: Machine, port: int) -> AsyncIterator[RawClient]:
    """Subscribe to the topic t in the machine, with the rights of its API key."""
    client = await RawClient.dial_with(it.socket(), port)
    try:
        head = f"\r\nAuthorization: Bearer {key_of(it)}\r\n\r\n".encode()
        await client.send(HANDSHAKE.replace(b"\r\n\r\n", head))
        assert (await client.read_head()).startswith(b"HTTP/1.1 101 ")
        await client.say({"type": "subscribe", "topic": "t"})
        assert (await client.hear())["type"] == "ack"
        yield client
    finally:
        client.close()


def test_the_server_has_no_rights(started: Machine) -> None:
    process = main_process(started, ONE)
    status = dict(re.findall(r"(?m)^(\w+):\t(.*)$", started.output(f"cat /proc/{process}/status")))
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {int(status[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    written = started.run(f"nsenter -t {process} -m touch {PLACE}/written /etc/written")
    assert written.stderr.count("Read-only file system") == 2, written


def test_the_secrets_are_for_the_server_alone(started: Machine) -> None:
    post = "curl -sw %{http_code} -o /dev/null localhost:8080/topics -d"
    assert started.output(f"""{post} '{{"name":"a"}}'""") == "401"
    key = f"-H 'X-API-Key: {key_of(started)}'"
    assert started.output(f"""{post} '{{"name":"a"}}' {key}""") == "201"
    nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    assert started.run(f"{nobody} cat /run/credentials/{ONE}.service/api-keys").returncode != 0
    process = main_process(started, ONE)
    assert key_of(started) not in started.output(f"tr '\\0' '\\n' < /proc/{process}/environ")


def test_the_token_for_the_console_may_manage_and_publish(started: Machine) -> None:
    token = follow(started, STEPS[1]).strip()
    ask = f"curl -sw %{{http_code}} -o /dev/null -H 'Authorization: Bearer {token}' localhost:8080"
    assert started.output(f"{ask}/nodes") == "200"
    assert started.output(f"""{ask}/topics -d '{{"name":"mine"}}'""") == "201"
    assert started.output(f"""{ask}/publish -d '{{"topic":"mine","payload":1}}'""") == "200"


def test_the_server_is_started_again_when_it_is_killed(started: Machine) -> None:
    killed = main_process(started, ONE)
    started.output(f"kill -KILL {killed}")
    end = time.monotonic() + PATIENCE
    while main_process(started, ONE) in (killed, "0"):
        assert time.monotonic() < end
        time.sleep(0.1)
    started.output(STEPS[0][-1])


def publish(it: Machine, port: int, payload: int) -> None:
    key = f"-H 'X-API-Key: {key_of(it)}'"
    it.output(
        f"""curl -sf {key} localhost:{port}/publish -d '{{"topic":"t","payload":{payload}}}'"""
    )


async def leave(client: RawClient) -> None:
    """Do what a client does when its server shuts down."""
    assert (await client.hear())["reason"] == "SHUTDOWN"
    assert await client.hear() == ("close", 1001, "going_away")
    await client.send(client_frame(CLOSE, b"\x03\xe9"))
    assert await client.hear() is None


async def test_two_servers_share_their_topics(two: Machine) -> None:
    async with subscriber(two, 8081) as client:
        publish(two, 8080, 42)
        assert (await client.hear())["message"]["payload"] == 42


async def test_a_stopped_server_drains(two: Machine) -> None:
    async with subscriber(two, 8081) as client:
        two.output(f"systemctl stop --no-block {TWO}")
        await leave(client)
    two.output(f"systemctl stop {TWO}")  # waits for the end
    shown = two.output(f"systemctl show --property Result,ExecMainStatus {TWO}")
    assert set(shown.splitlines()) == {"Result=success", "ExecMainStatus=0"}
    assert "INFO server: stopped\n" in two.output(f"journalctl --output cat --unit {TWO}")
    two.output(f"systemctl start {TWO}; {STEPS[3][-1]}")


async def test_an_upgrade_restarts_one_server_after_the_other(two: Machine) -> None:
    half = STEPS[3].index(f"systemctl restart {TWO}")
    async with subscriber(two, 8081) as client:
        assert json.loads(follow(two, STEPS[3][:half]))["status"] == "ok"
        async with subscriber(two, 8080) as moved:
            publish(two, 8081, 1)
            for it in (client, moved):
                assert (await it.hear())["message"]["payload"] == 1
            restart, *rest = STEPS[3][half:]
            two.output(restart.replace("restart", "restart --no-block"))
            await leave(client)
            assert json.loads(follow(two, rest))["status"] == "ok"
            publish(two, 8081, 2)
            assert (await moved.hear())["message"]["payload"] == 2


async def test_workers_are_replaced_by_a_reload(two: Machine) -> None:
    assert json.loads(follow(two, STEPS[4]))["status"] == "ok"
    ask = partial(two.output, STEPS[4][-1])
    await eventually(lambda: json.loads(ask())["checks"]["workers"] == "ok")
    main = main_process(two, ONE)
    async with subscriber(two, 8080) as client:
        reloading = asyncio.create_task(asyncio.to_thread(follow, two, STEPS[5]))
        await leave(client)
        await reloading
    journal = partial(two.output, f"journalctl --output cat --unit {ONE}")
    await eventually(lambda: "all workers are replaced" in journal())
    assert main_process(two, ONE) == main
    # systemd sends SIGTERM to all processes of the unit.
    async with subscriber(two, 8080) as client:
        two.output(f"systemctl stop --no-block {ONE}")
        await leave(client)
    two.output(f"systemctl stop {ONE}")  # waits for the end
    shown = two.output(f"systemctl show --property Result,ExecMainStatus {ONE}")
    assert set(shown.splitlines()) == {"Result=success", "ExecMainStatus=0"}
    folder = "/etc/systemd/system/broadcast@.service.d"
    two.output(f"rm {folder}/workers.conf; systemctl daemon-reload; systemctl start {ONE}")
    two.output(f"systemctl enable --now {TWO}; {STEPS[3][-1]}")


def test_a_wrong_setting_does_not_make_a_loop(two: Machine) -> None:
    two.output("echo MAX_TOPICS=0 >> /etc/broadcast/broadcast.env")
    two.output(f"systemctl stop {TWO}; systemctl start {TWO}")
    end = time.monotonic() + PATIENCE
    while two.run(f"systemctl is-failed {TWO}").stdout != "failed\n":
        assert time.monotonic() < end
        time.sleep(0.1)
    assert two.output(f"systemctl show --property NRestarts --value {TWO}") == "0"
    two.output("sed -i '$d' /etc/broadcast/broadcast.env")
    two.output(f"systemctl start {TWO}; {STEPS[3][-1]}")
