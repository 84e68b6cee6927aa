"""`python server.py [serve]`: options, help, `--check`, and mistakes in the command line."""

import asyncio
import os
import re
import shlex
from pathlib import Path

import pytest

from cli.commands import COMMANDS, run
from cli.setting_lists import FIRST, configuration, env_example
from hub.settings import SECRETS, SETTINGS, Inspection, Settings, read_settings
from hub.version import VERSION
from tests.support.command import carry_out, command, finish, start
from tests.support.markdown import blocks
from tests.support.pasted import paste
from tests.support.patience import PATIENCE
from tests.support.process import ROOT

SECRET = "0123456789abcdef0123456789abcdef"


def served(arguments: list[str], **environ: str) -> Inspection:
    """Return the settings that a command line serves with."""
    inspection = run(arguments, environ)
    assert isinstance(inspection, Inspection)
    return inspection


# --- Options --------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["serve"]])
def test_each_setting_may_be_an_option(command: list[str], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    options = ["--port", "9000", "--max-queue-size=7", "--backpressure", "drop_oldest"]
    options += ["--jwt-secret-file", str(file)]
    settings = served([*command, *options], PORT="1", JWT_SECRET="short", HOST="::1").settings
    assert (settings.port, settings.max_queue_size, settings.host) == (9_000, 7, "::1")
    assert settings.backpressure == "drop_oldest"
    assert settings.access_on


def test_without_options_the_environment_decides() -> None:
    assert served([]).settings == Settings()
    assert served(["serve"], PORT="9000").settings == read_settings({"PORT": "9000"})


@pytest.mark.parametrize(
    ("arguments", "logged"),
    [(["--access-log"], True), (["--access-log", "no"], False), (["--access-log=1"], True)],
)
def test_a_switch_may_be_given_without_a_value(arguments: list[str], logged: bool) -> None:
    assert served(arguments).settings.access_log is logged


@pytest.mark.parametrize(
    ("command", "name"),
    [("token", "JWT_SECRET"), *(("serve", name) for name in sorted(SECRETS))],
)
def test_a_secret_is_no_option(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = f"--{name.lower().replace('_', '-')}"
    with pytest.raises(SystemExit) as ended:
        carry_out([command, option, SECRET], {})
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"others could see the secret: use {option}-file FILE, or set {name} or" in said
    assert said.count("\n") == 1
    assert SECRET not in said


async def test_the_server_listens_on_the_port_of_the_option() -> None:
    process = await start("--port", "0", "--host=127.0.0.1", PORT="1")
    assert process.stderr is not None
    async with asyncio.timeout(PATIENCE):
        while b"listening on http://127.0.0.1:" not in await process.stderr.readline():
            assert not process.stderr.at_eof()
    process.terminate()
    assert (await finish(process)).code == 0


# --- Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--prot 9000", "server.py serve: unknown argument '--prot': did you mean --port?"),
        ("--max-conections=5", "unknown argument '--max-conections': did you mean --max-conn"),
        ("serve token", "server.py serve: unknown argument 'token'"),
        ("--port", "server.py serve: argument --port: expected one argument"),
        ("stat", "unknown command 'stat': did you mean stats?"),
        ("xyzzy", "unknown command 'xyzzy' (python server.py --help)"),
        ("token --sbu ann", "server.py token: unknown argument '--sbu': did you mean --sub?"),
        ("--port http", "--port='http' is not valid: a whole number from 0 to 65535 is allowed"),
        ("--max-topics -1", "--max-topics='-1' is not valid: a whole number from 1 to"),
    ],
)
async def test_a_mistake_is_one_line_and_nothing_is_served(arguments: str, says: str) -> None:
    result = await command(*shlex.split(arguments))
    assert (result.code, result.out) == (2, "")
    assert says in result.err
    assert result.err.count("\n") == 1


def test_all_wrong_settings_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out(["--port", "x"], {"MAX_TOPICS": "0"}) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["--port='x'", "MAX_TOPICS='0'"]


# --- Help and version -----------------------------------------------------------------------------


@pytest.mark.parametrize("argument", ["--help", "-h", "help"])
def test_the_help_lists_the_commands(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert carry_out([argument], {}) == 0
    text = capsys.readouterr().out
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{summary}$", text, re.MULTILINE)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_fits_80_columns(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        carry_out([name, "--help"], {"COLUMNS": "200"})
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python server.py ")
    assert name in text.partition("\n")[0]
    assert max(map(len, text.splitlines())) <= 80


def test_the_help_has_each_setting_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        carry_out(["serve", "--help"], {})
    text = capsys.readouterr().out
    for setting in SETTINGS:
        _, _, group = text.partition(f"\n{setting.group}:\n")
        assert f"\n  {setting.option} " in f"\n{group.partition(chr(10) * 2)[0]}"


async def test_the_version_is_that_of_the_project() -> None:
    result = await command("--version")
    assert (result.code, result.out, result.err) == (0, f"websocket-broadcast {VERSION}\n", "")


# --- Check ----------------------------------------------------------------------------------------


def test_check_shows_each_setting_and_its_source_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    environ = {"API_KEYS": "app:0123456789abcdef", "MAX_TOPICS": "5", "REDIS_ADRR": "redis"}
    options = ["--check", "--port", "9000", "--jwt-secret-file", str(file)]
    assert carry_out(options, environ) == 0
    result = capsys.readouterr()
    warning = "REDIS_ADRR is not a setting, and is ignored: did you mean REDIS_ADDR?"
    assert result.err == f"warning: {warning}\n"
    rows = dict(re.findall(r"^  (\w+) +(.*)$", result.out, re.MULTILINE))
    assert list(rows) == [setting.name for setting in SETTINGS]
    shown = {name: re.split(" {2,}", row) for name, row in rows.items()}
    assert shown["PORT"] == ["option", "9000"]
    assert shown["MAX_TOPICS"] == ["environment", "5"]
    assert shown["API_KEYS"] == ["environment", "***"]
    assert shown["JWT_SECRET"] == ["file", "***", str(file)]
    assert shown["HOST"] == ["default", "0.0.0.0"]
    assert SECRET not in result.out
    assert "0123456789abcdef" not in result.out.replace(SECRET, "")
    assert result.out.splitlines()[-1].startswith("access: on (API_KEYS, JWT_SECRET), without")


async def test_check_names_all_mistakes_at_once() -> None:
    result = await command("--check", "--port=x", IDLE_TIMEOUT="1", JWT_SECRET_FILE="/none/secret")
    assert result.code == 2
    assert [line.partition(" ")[0] for line in result.err.splitlines()] == [
        "--port='x'",
        "JWT_SECRET_FILE=***",
        "IDLE_TIMEOUT='1'",
    ]
    wrong = re.findall(r"^  (\w+) +(.*?) *\(not valid\)$", result.out, re.MULTILINE)
    assert [(name, row.split()) for name, row in wrong] == [
        ("PORT", ["option", "x"]),
        ("IDLE_TIMEOUT", ["environment", "1"]),
        ("JWT_SECRET", []),
    ]
    assert "/none/secret" not in result.out + result.err
    assert "\x1b" not in result.out


# --- .env.example and docs/configuration.md -------------------------------------------------------


def test_the_example_of_an_environment_is_that_of_the_table() -> None:
    assert (ROOT / ".env.example").read_text() == env_example(), "run: make settings"


def test_the_example_has_every_setting_with_its_default() -> None:
    lines = re.findall(r"^#([A-Z_]+)=(.*)$", env_example(), re.MULTILINE)
    assert [name for name, _ in lines] == [setting.name for setting in SETTINGS]
    switches = {setting.name for setting in SETTINGS if setting.switch}
    assert read_settings({k: v for k, v in lines if k not in switches}) == Settings()


def test_the_page_of_settings_is_that_of_the_table() -> None:
    assert (ROOT / "docs/configuration.md").read_text() == configuration(), "run: make settings"


def test_the_page_has_every_setting_with_its_option_and_default() -> None:
    rows = re.findall(r"(?m)^\| (.*?`--.*?) \| (?:`(.*)`)? \| \S.*\. \|$", configuration())
    assert [(re.findall("`(.*?)`", names), default) for names, default in rows] == [
        ([it.name, *([it.file_name] if it.secret else []), it.option], it.default_text)
        for it in SETTINGS
    ]


def test_the_page_begins_with_ten_settings() -> None:
    assert len(FIRST) == 10
    assert set(FIRST) <= {setting.name for setting in SETTINGS}


async def test_the_commands_of_the_page_work_as_pasted() -> None:
    commands, outputs = (
        [it.lines for it in blocks(configuration()) if it.tag == tag] for tag in ("sh", "text")
    )
    assert [await paste(command, 0) for (command,) in commands] == outputs


async def test_a_shell_reads_the_example(tmp_path: Path) -> None:
    switches = tuple(f"#{setting.name}=" for setting in SETTINGS if setting.switch)
    lines = [it for it in env_example().splitlines() if not it.startswith(switches)]
    file = tmp_path / "env"
    file.write_text("\n".join(re.sub("^#([A-Z])", r"\1", line) for line in lines))
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", 'set -a; . "$0"; env -0', str(file)), stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await shell.communicate()
    environ = dict(it.split("=", 1) for it in printed.decode().split("\0") if it)
    assert environ["MAX_TOPICS"] == "250000"
    assert read_settings(environ) == Settings()


# --- Output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["serve --help", "--check", "--help"])
async def test_a_reader_that_has_gone_is_no_error(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await start(*shlex.split(arguments), stdout=writing)
    os.close(writing)
    result = await finish(process)
    assert (result.code, result.err) == (141, "")


async def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        result = await finish(await start("--check", stdout=full.fileno()))
    assert (result.code, result.err) == (1, "cannot write the output: No space left on device\n")
