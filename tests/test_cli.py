"""The subcommands of `server.py`."""

import io
import os
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from cli import run
from hub.errors import SettingError

ROOT = Path(__file__).parents[1]
SECRET = "0123456789abcdef0123456789abcdef"
LEFT_OUT = "publish 'chat/{sub}' allows nothing: sub has one of + # * { } or the separator"
ENVIRON = {"JWT_SECRET": SECRET}


def make(capsys: pytest.CaptureFixture[str], *arguments: str, **environ: str) -> str:
    assert run(["token", *arguments], {**ENVIRON, **environ}) == 0
    return capsys.readouterr().out.strip()


def test_a_token_is_printed_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    token = make(
        capsys,
        *(
            "--sub",
            "ann",
            "--subscribe",
            "chat/#",
            "--subscribe",
            "news",
            "--publish",
            "chat/{sub}",
        ),
        *("--ttl", "10m", "--info", '{"name":"Ann"}'),
    )
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == 600
    assert claims["info"] == {"name": "Ann"}
    assert run(["check-token", token], ENVIRON) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("valid for 'ann', expires 2")
    assert rest == ["subscribe: news, chat/#", "publish: chat/{sub}", "manage: nothing"]


@pytest.mark.parametrize(
    ("arguments", "warning"),
    [
        (("--sub", "ann"), "warning: the token allows nothing"),
        (
            ("--sub", "a/b", "--publish", "chat/{sub}"),
            f"warning: {LEFT_OUT}\nwarning: the token allows nothing",
        ),
        (
            ("--sub", "a#", "--publish", "chat/{sub}", "--subscribe", "x"),
            f"warning: {LEFT_OUT}",
        ),
        (("--sub", "ann", "--publish", "chat/{sub}"), ""),
        (("--sub", "a/b", "--manage", "x"), ""),
    ],
)
def test_a_token_without_a_right_is_made_with_a_warning(
    arguments: tuple[str, ...], warning: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["token", *arguments], ENVIRON) == 0
    printed = capsys.readouterr()
    assert len(printed.out.split()) == 1
    assert printed.err.rstrip() == warning


@pytest.mark.parametrize(
    ("verb", "topic", "code", "says"),
    [
        ("publish", "chat/ann", 0, "publish on 'chat/ann' is allowed by 'chat/{sub}'\n"),
        ("publish", "chat/bob", 1, "publish on 'chat/bob' is not allowed\n"),
        ("subscribe", "news", 0, "subscribe on 'news' is allowed by '*'\n"),
        ("manage", "news", 1, "manage on 'news' is not allowed\n"),
    ],
)
def test_a_topic_is_checked(
    verb: str, topic: str, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {**ENVIRON, "ANONYMOUS_SUBSCRIBE": "*"}
    token = make(capsys, "--sub", "ann", "--publish", "chat/{sub}")
    assert run(["check-token", token, "--verb", verb, "--topic", topic], environ) == code
    assert capsys.readouterr().out == says


def test_a_token_is_read_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(make(capsys, "--sub", "ann") + "\n"))
    assert run(["check-token"], ENVIRON) == 0
    assert "valid for 'ann'" in capsys.readouterr().out


def test_a_token_has_the_audience_and_issuer_of_the_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {"JWT_AUDIENCE": "app", "JWT_ISSUER": "me"}
    token = make(capsys, "--sub", "ann", **environ)
    assert run(["check-token", token], {**ENVIRON, **environ}) == 0
    assert run(["check-token", token], {**ENVIRON, "JWT_ISSUER": "you"}) == 1
    assert capsys.readouterr().err == "not valid: issuer: its iss is not JWT_ISSUER\n"


def test_a_token_without_an_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    token = jwt.encode({"sub": "ann"}, SECRET, "HS256")
    assert run(["check-token", token], {**ENVIRON, "JWT_REQUIRE_EXP": "false"}) == 0
    assert capsys.readouterr().out.startswith("valid for 'ann', expires never\n")


@pytest.mark.parametrize(
    ("arguments", "environ", "says"),
    [
        (["check-token", "a.b"], ENVIRON, "not valid: malformed: it is not a JWT"),
        (["check-token", "a.b"], {}, "access is off: set one of API_KEYS, JWT_SECRET"),
        (["check-token", "a.b", "--topic", "a"], ENVIRON, "--topic and --verb need each other"),
        (["token", "--sub", ""], ENVIRON, "no token was made: sub must be a string"),
        (["token", "--sub", "a", "--manage", "a#"], ENVIRON, "no token was made: manage: 'a#': "),
        (["token", "--sub", "a", "--info", "NaN"], ENVIRON, "no token was made: "),
    ],
)
def test_a_failure_is_one_line(
    arguments: list[str], environ: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments, environ) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(says)
    assert captured.err.count("\n") == 1


def test_keys_of_an_issuer_are_not_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {
        "JWT_JWKS_URL": "https://id.example/keys",
        "JWT_AUDIENCE": "app",
        "JWT_ISSUER": "https://id.example",
    }
    token = jwt.encode({"sub": "ann"}, SECRET, "HS256")
    assert run(["check-token", token], environ) == 1
    assert capsys.readouterr().err.endswith("(keys of JWT_JWKS_URL are not fetched here)\n")


@pytest.mark.parametrize("ttl", ["", "0s", "1", "h", "-1h", "1.5h", "1w", "\u0661h"])
def test_a_time_to_live_has_a_unit(ttl: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(["token", "--sub", "ann", f"--ttl={ttl}"], ENVIRON)
    assert caught.value.code == 2
    assert "a number with s, m, h or d" in capsys.readouterr().err


def test_info_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["token", "--sub", "ann", "--info", "{"], ENVIRON)
    assert "it is not JSON" in capsys.readouterr().err


def test_a_token_needs_a_secret_to_sign_it() -> None:
    with pytest.raises(SettingError, match=r"^JWT_SECRET=\S* is not valid: it is needed to sign"):
        run(["token", "--sub", "ann"], {"API_KEYS": "app:0123456789abcdef"})


def command(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "server.py", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_server_runs_a_subcommand(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    made = command("token", "--sub", "ann", "--publish", "a", JWT_SECRET_FILE=str(file))
    assert (made.returncode, made.stderr) == (0, "")
    assert jwt.decode(made.stdout.strip(), SECRET, ["HS256"])["sub"] == "ann"
    wrong = command("token", "--sub", "ann", JWT_SECRET="short")
    assert wrong.returncode == 1
    assert wrong.stderr == (
        "JWT_SECRET=*** is not valid: each secret must have at least 32 bytes\n"
    )
