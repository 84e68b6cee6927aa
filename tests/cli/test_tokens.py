"""`token` and `check-token`."""

import io
from pathlib import Path

import jwt
import pytest

from tests.support.command import carry_out, command

SECRET = "0123456789abcdef0123456789abcdef"
LEFT_OUT = "publish 'chat/{sub}' allows nothing: sub has one of + # * { } or the separator"
ENVIRON = {"JWT_SECRET": SECRET}


def make(capsys: pytest.CaptureFixture[str], *arguments: str, **environ: str) -> str:
    assert carry_out(["token", *arguments], {**ENVIRON, **environ}) == 0
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
    assert carry_out(["check-token", token], ENVIRON) == 0
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
    assert carry_out(["token", *arguments], ENVIRON) == 0
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
    assert carry_out(["check-token", token, "--verb", verb, "--topic", topic], environ) == code
    assert capsys.readouterr().out == says


def test_a_right_of_everybody_and_of_the_token_is_shown_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    token = make(capsys, "--sub", "ann", "--subscribe", "chat/#", "--subscribe", "news")
    assert carry_out(["check-token", token], {**ENVIRON, "ANONYMOUS_SUBSCRIBE": "chat/#"}) == 0
    assert capsys.readouterr().out.splitlines()[1] == "subscribe: news, chat/#"


def test_a_token_is_read_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(make(capsys, "--sub", "ann") + "\n"))
    assert carry_out(["check-token"], ENVIRON) == 0
    assert "valid for 'ann'" in capsys.readouterr().out


def test_a_token_has_the_audience_and_issuer_of_the_settings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environ = {"JWT_AUDIENCE": "app", "JWT_ISSUER": "me"}
    token = make(capsys, "--sub", "ann", **environ)
    assert carry_out(["check-token", token], {**ENVIRON, **environ}) == 0
    assert carry_out(["check-token", token], {**ENVIRON, "JWT_ISSUER": "you"}) == 1
    assert capsys.readouterr().err == "not valid: issuer: its iss is not JWT_ISSUER\n"


def test_a_token_without_an_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    token = jwt.encode({"sub": "ann"}, SECRET, "HS256")
    assert carry_out(["check-token", token], {**ENVIRON, "JWT_REQUIRE_EXP": "false"}) == 0
    assert capsys.readouterr().out.startswith("valid for 'ann', expires never\n")


@pytest.mark.parametrize(
    ("arguments", "environ", "code", "says"),
    [
        (["check-token", "a.b"], ENVIRON, 1, "not valid: malformed: it is not a JWT"),
        (["check-token", "a.b"], {}, 2, "access is off: set one of API_KEYS, JWT_SECRET"),
        (["check-token", "a.b", "--topic", "a"], ENVIRON, 2, "--topic and --verb need each other"),
        (["token", "--sub", ""], ENVIRON, 2, "no token was made: sub must be a string"),
        (
            ["token", "--sub", "a", "--manage", "a#"],
            ENVIRON,
            2,
            "no token was made: manage: 'a#': ",
        ),
        (["token", "--sub", "a", "--info", "NaN"], ENVIRON, 2, "no token was made: "),
    ],
)
def test_a_failure_is_one_line(
    arguments: list[str],
    environ: dict[str, str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert carry_out(arguments, environ) == code
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
    assert carry_out(["check-token", token], environ) == 1
    assert capsys.readouterr().err.endswith("(keys of JWT_JWKS_URL are not fetched here)\n")


@pytest.mark.parametrize("ttl", ["", "0s", "1", "h", "-1h", "1.5h", "1w", "\u0661h"])
def test_a_time_to_live_has_a_unit(ttl: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        carry_out(["token", "--sub", "ann", f"--ttl={ttl}"], ENVIRON)
    assert caught.value.code == 2
    assert "a number with s, m, h or d" in capsys.readouterr().err


def test_info_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        carry_out(["token", "--sub", "ann", "--info", "{"], ENVIRON)
    assert "it is not JSON" in capsys.readouterr().err


def test_a_token_needs_a_secret_to_sign_it(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"API_KEYS": "app:0123456789abcdef"}
    assert carry_out(["token", "--sub", "ann"], environ) == 2
    assert capsys.readouterr().err == "JWT_SECRET='' is not valid: it is needed to sign a token\n"


async def test_the_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    token = ("token", "--sub", "ann", "--publish", "a")
    made = await command(*token, JWT_SECRET_FILE=str(file))
    assert (made.code, made.err) == (0, "")
    assert jwt.decode(made.out.strip(), SECRET, ["HS256"])["sub"] == "ann"
    named = await command(*token, "--jwt-secret-file", str(file))
    assert (named.code, named.err) == (0, "")
    wrong = await command(*token, JWT_SECRET="short")
    assert (wrong.code, wrong.err) == (
        2,
        "JWT_SECRET=*** is not valid: each secret must have at least 32 bytes\n",
    )
