"""examples/load.sh: curl and jq publish and read."""

import re
import subprocess
from pathlib import Path

from tests.support.examples import (
    README,
    commands,
    line_of,
    output,
    remembered,
    started,
)
from tests.support.markdown import blocks, section
from tests.support.programs import find, needs
from tests.support.server import Running

pytestmark = [needs("jq"), needs("curl")]


def test_it_prints_the_load_that_it_publishes(root: Path, here: Running) -> None:
    publish, read = commands("Shell")
    (shown,) = [it.lines[0] for it in blocks(section(README, "Shell")) if it.tag == "text"]
    form = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  (\S+)  (\d+(?:\.\d+)?)")
    assert form.fullmatch(shown)
    with started(publish, root) as publisher:
        line_of(publisher, '^{"status":"published","id":')
        with started(read, root) as reader:
            found = line_of(reader, form.pattern)  # one that was published before
            line_of(publisher, '^{"status":"published","id":')
            line_of(reader, form.pattern)  # and one that comes
    assert remembered(here, "load")[0] == {"host": found[1], "load": float(found[2])}


def test_it_goes_on_when_its_topic_is_deleted(root: Path, here: Running) -> None:
    publish, _ = commands("Shell")
    with started(publish, root) as publisher:
        line_of(publisher, '^{"status":"published"')
        subprocess.run(["curl", "-sS", "-X", "DELETE", f"{here.url}/topics/load"], check=True)
        line_of(publisher, "does not exist")
        line_of(publisher, '^{"status":"published"')


def test_it_names_its_two_words(root: Path) -> None:
    assert output("examples/load.sh", root) == (
        "usage: examples/load.sh publish | read\nexit code 2"
    )


def test_shellcheck_finds_nothing(root: Path) -> None:
    find("shellcheck")
    assert output("shellcheck examples/load.sh", root) == ""
