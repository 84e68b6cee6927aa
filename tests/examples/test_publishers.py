"""examples/publish.mjs and publish.go: each line is published once, also if an answer is lost."""

from pathlib import Path

import pytest

from tests.support.backstage import Backstage
from tests.support.eventually import wait_until
from tests.support.examples import (
    README,
    call,
    commands,
    copied,
    cut,
    line_of,
    output,
    remembered,
    started,
)
from tests.support.go_tools import needs_go
from tests.support.markdown import blocks, section
from tests.support.programs import needs
from tests.support.proxy import Proxy
from tests.support.server import Running, running
from tests.support.tokens import KEY
from tests.support.tokens import settings as access_settings

HEADINGS = [
    pytest.param("Publish from Node", marks=needs("node")),
    pytest.param("Publish from Go", marks=needs_go),
]
each = pytest.mark.parametrize("heading", HEADINGS)


def shown(heading: str) -> str:
    (text,) = [it for it in blocks(section(README, heading)) if it.tag == "text"]
    return "".join(f"{line}\n" for line in text.lines)


@each
def test_it_publishes_each_line(heading: str, root: Path, here: Running) -> None:
    (command,) = commands(heading)
    assert output(command, root) == shown(heading)
    assert remembered(here, "numbers") == ["1", "2", "3"]
    assert output(command, root) == shown(heading)  # also to a topic that exists
    assert remembered(here, "numbers") == ["1", "2", "3"] * 2


@each
def test_a_message_whose_answer_is_lost_is_published_once(
    heading: str, backstage: Backstage, tmp_path: Path, here: Running, way: Proxy
) -> None:
    _, _, command = commands(heading)[0].partition(" | ")
    with started(command, copied(tmp_path / "behind", way.port)) as publisher:
        assert publisher.stdin is not None
        for line in ("one", "two"):
            way.mute = line == "two"  # its answer is lost
            publisher.stdin.write(f"{line}\n")
            publisher.stdin.flush()
            if line == "two":
                wait_until(lambda: remembered(here, "numbers") == ["one", "two"])
                way.mute = False
                backstage.run(cut(way))
            line_of(publisher, f"^{line} -> ")
    assert remembered(here, "numbers") == ["one", "two"]


@each
def test_it_sends_its_key_and_names_a_missing_right(
    heading: str, backstage: Backstage, tmp_path: Path
) -> None:
    guarded = backstage.enter(running(access_settings()))
    root = copied(tmp_path, guarded.port)
    (command,) = commands(heading)
    assert "A token is needed for manage" in output(command, root)
    assert output(command, root, API_KEY=KEY) == shown(heading)
    history = call(f"{guarded.url}/topics/numbers/history", **{"X-API-Key": KEY})
    assert len(history[1]["events"]) == 3


@needs_go
def test_the_go_example_is_formatted_and_vetted(root: Path) -> None:
    assert output("gofmt -l examples/publish.go && go vet examples/publish.go", root) == ""
