"""examples/reader.py: it misses nothing after a cut, names holes, and needs little memory."""

import re
from pathlib import Path

import pytest

from tests.support.backstage import Backstage
from tests.support.eventually import wait_until
from tests.support.examples import (
    SETTINGS,
    call,
    commands,
    copied,
    cut,
    line_of,
    output,
    started,
)
from tests.support.proxy import Proxy, proxy
from tests.support.server import Running, running


def publish(server: Running, *payloads: object) -> None:
    for payload in payloads:
        body = {"topic": "numbers", "payload": payload}
        assert call(f"{server.url}/publish", body)[0] == 200


def test_it_misses_nothing_after_a_cut(
    backstage: Backstage, tmp_path: Path, here: Running, way: Proxy
) -> None:
    (command,) = commands("A small computer")
    with started(command, copied(tmp_path, way.port)) as reader:
        wait_until(lambda: here.topics() == {"numbers": 1})
        publish(here, 1, {"two": [2]})
        line_of(reader, "^numbers 1$")
        line_of(reader, r'^numbers {"two": \[2\]}$')
        way.shut = True
        backstage.run(cut(way))
        line_of(reader, "^connecting again in ")
        publish(here, "three", "four")
        way.shut = False
        line_of(reader, '^numbers "three"$')
        line_of(reader, '^numbers "four"$')
        publish(here, "five")
        assert reader.stdout is not None
        assert reader.stdout.readline() == 'numbers "five"\n'


def test_it_names_a_hole(backstage: Backstage, tmp_path: Path) -> None:
    forgetful = backstage.enter(running(SETTINGS.__class__(history_size=2)))
    way = backstage.enter(proxy(forgetful.port))
    (command,) = commands("A small computer")
    with started(command, copied(tmp_path, way.port)) as reader:
        wait_until(lambda: forgetful.topics() == {"numbers": 1})
        publish(forgetful, 1)
        line_of(reader, "^numbers 1$")
        way.shut = True
        backstage.run(cut(way))
        line_of(reader, "^connecting again in ")
        publish(forgetful, 2, 3, 4)
        way.shut = False
        line_of(reader, "^numbers events are missing here$")


def test_it_waits_for_a_server_that_is_not_there_yet(
    tmp_path: Path, here: Running, way: Proxy
) -> None:
    (command,) = commands("A small computer")
    way.shut = True
    with started(command, copied(tmp_path, way.port)) as reader:
        line_of(reader, "^no connection: ")
        way.shut = False
        wait_until(lambda: here.topics() == {"numbers": 1})


@pytest.mark.parametrize("topics", ["", "numbers numbers"])
def test_it_ends_with_the_reason_of_the_server(root: Path, topics: str) -> None:
    command = commands("A small computer")[0].replace("numbers", topics)
    assert re.fullmatch(r'400: {"error":".+"}\nexit code 1', output(command, root))


def test_it_holds_one_message_at_a_time(root: Path, here: Running) -> None:
    def peak() -> int:
        """Return the largest memory of the process so far, in bytes."""
        status = Path(f"/proc/{reader.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    command = f"exec {commands('A small computer')[0]}"
    with started(command, root) as reader:
        wait_until(lambda: here.topics() == {"numbers": 1})
        size = 60_000
        for number in range(300):  # 18 MB in all
            publish(here, f"{number} {'x' * size}")
            line_of(reader, f'^numbers "{number} ')
            if number == 10:
                before = peak()
        assert peak() - before < 20 * size
