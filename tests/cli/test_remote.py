"""`stats`, `topics`, `publish` and `disconnect`, with a real server."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hub.settings import Settings
from tests.support import tokens
from tests.support.command import Result, carry_out
from tests.support.patience import PATIENCE
from tests.support.raw import RawClient
from tests.support.redis import free_port
from tests.support.server import Running, running

Ask = Callable[..., Coroutine[Any, Any, Result]]


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(Settings()) as running_server:
        yield running_server


@pytest.fixture
async def guarded() -> AsyncIterator[Running]:
    """A server with access on."""
    async with running(tokens.settings()) as running_server:
        yield running_server


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command in a thread, so that a server of this process can answer it."""

    async def ask(*arguments: str, given: bytes = b"", **environ: str) -> Result:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        code = await asyncio.to_thread(carry_out, arguments, environ)
        return Result(code, *capsys.readouterr())

    return ask


async def subscriber(server: Running, topic: str) -> RawClient:
    client = await RawClient.connect(server.port)
    await client.subscribe(topic)
    return client


# --- stats ----------------------------------------------------------------------------------------


async def test_stats_are_a_table_or_json(server: Running, ask: Ask) -> None:
    client = await subscriber(server, "news")
    stats = ("stats", "--url", server.url)
    assert await ask(*stats) == Result(
        0, "clients  1\ntopics   1\n\nsubscribers  topic\n          1  news\n", ""
    )
    result = await ask(*stats, "--json")
    assert json.loads(result.out) == {"total_clients": 1, "total_topics": 1, "topics": {"news": 1}}
    assert result.out.count("\n") == 1
    client.close()


async def test_an_empty_server_has_no_table(server: Running, ask: Ask) -> None:
    assert await ask("stats", "--url", server.url) == Result(0, "clients  0\ntopics   0\n", "")


async def test_stats_say_that_there_are_more_topics(server: Running, ask: Ask) -> None:
    names = [f"t{number:04}" for number in range(1_001)]
    assert (await ask("topics", "create", *names, "--url", server.url)).code == 0
    lines = (await ask("stats", "--url", server.url)).out.splitlines()
    assert lines[-1] == "... the first 1000; `topics` lists all"


# --- topics ---------------------------------------------------------------------------------------


async def test_topics_are_created_listed_and_deleted(server: Running, ask: Ask) -> None:
    url = ("--url", server.url)
    names = ("news", "a/b?c#d", "ünï 2", "../stats")
    made = await ask("topics", "create", *names, *url)
    assert made == Result(0, "".join(f"created {name}\n" for name in names), "")
    listed = await ask("topics", *url)
    assert listed.out.splitlines() == [
        "subscribers  topic",
        *(f"          0  {name}" for name in sorted(names)),
    ]
    assert (await ask("topics", "list", "--prefix", "n", *url)).out.split() == [
        *("subscribers", "topic", "0", "news")
    ]
    gone = await ask("topics", "delete", *names, *url, "--json")
    assert [json.loads(line) for line in gone.out.splitlines()] == [
        {"status": "deleted", "topic": name} for name in names
    ]
    assert await ask("topics", *url) == Result(0, "", "")


@pytest.mark.parametrize("as_json", [False, True])
async def test_all_pages_of_topics_are_listed(server: Running, ask: Ask, as_json: bool) -> None:
    names = [f"t{number:04}" for number in range(2_500)]
    for name in names:
        server.hub.create(name, lambda _: None)
    result = await ask("topics", "--url", server.url, *["--json"] * as_json)
    if as_json:
        assert json.loads(result.out) == {"count": 2_500, "topics": dict.fromkeys(names, 0)}
    else:
        assert [line.split()[1] for line in result.out.splitlines()] == ["topic", *names]


async def test_a_topic_that_exists_or_does_not_is_refused(server: Running, ask: Ask) -> None:
    url = ("--url", server.url)
    await ask("topics", "create", "news", *url)
    again = await ask("topics", "create", "other", "news", "third", *url)
    assert again == Result(1, "created other\n", "news: Topic already exists\n")
    unknown = await ask("topics", "delete", "no\nsuch", *url)
    assert unknown == Result(1, "", "no\\nsuch: Topic not found\n")


async def test_names_cannot_write_to_a_terminal(server: Running, ask: Ask) -> None:
    await ask("topics", "create", "a\x1b[31mb\nc\u202e", "--url", server.url)
    listed = await ask("topics", "--url", server.url)
    assert listed.out.splitlines()[1:] == ["          0  a\\x1b[31mb\\nc\\u202e"]


# --- publish --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        (['{"a":[1,null]}'], {"a": [1, None]}),
        (["42"], 42),
        (["hello world"], "hello world"),
        (["[draft] hello", "--text"], "[draft] hello"),
        (["42", "--text"], "42"),
        (["NaN"], "NaN"),
        (["18446744073709551615"], 18446744073709551615),
        (["--", "-1"], -1),
        (["ünï \u2028"], "ünï \u2028"),
        ([""], ""),
    ],
)
async def test_a_payload_is_json_or_text(
    server: Running, ask: Ask, arguments: list[str], payload: Any
) -> None:
    client = await subscriber(server, "news")
    result = await ask("publish", "news", "--url", server.url, *arguments)
    assert result == Result(0, "published to news: 1 subscriber\n", "")
    assert (await client.hear())["message"]["payload"] == payload
    client.close()


@pytest.mark.parametrize("payload", ['{"a":1', "[1,", '"open', "[" * 100_000])
async def test_broken_json_is_not_sent_as_text(server: Running, ask: Ask, payload: str) -> None:
    result = await ask("publish", "news", payload, "--url", server.url)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("the payload ")
    assert result.err.count("\n") == 1


async def test_each_line_of_the_input_is_a_message(server: Running, ask: Ask) -> None:
    client = await subscriber(server, "news")
    publish = ("publish", "news", "-", "--url", server.url)
    result = await ask(*publish, given=b'1\n\n  \nhello\r\n{"a":2}')
    assert result == Result(0, "published 3 messages to news\n", "")
    payloads = [(await client.hear())["message"]["payload"] for _ in range(3)]
    assert payloads == [1, "hello", {"a": 2}]
    result = await ask(*publish, "--json", given=b"x\ny\n")
    answers = [json.loads(line) for line in result.out.splitlines()]
    assert [answer["receivers"] for answer in answers] == [1, 1]
    client.close()


@pytest.mark.parametrize(
    ("given", "code", "says"),
    [
        (b"1\n\n{\n3\n", 2, "line 3: the payload begins like JSON, but is not: "),
        (b"1\n\xff\n", 2, "line 2: it is not UTF-8"),
        (b"1\n" + b"x" * 70_000, 1, "line 2: Body is too large: at most 65536 bytes"),
    ],
)
async def test_a_wrong_line_ends_the_input_and_is_named(
    server: Running, ask: Ask, given: bytes, code: int, says: str
) -> None:
    await ask("topics", "create", "news", "--url", server.url)
    result = await ask("publish", "news", "-", "--url", server.url, given=given)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith(says)


async def test_an_idempotency_key_publishes_once(server: Running, ask: Ask) -> None:
    client = await subscriber(server, "news")
    publish = ("publish", "news", "--url", server.url, "--key", "k")
    await ask(*publish, "1")
    assert (await ask(*publish, "1")).out == "published before to news, with this key\n"
    for _ in range(2):
        result = await ask(*publish, "-", "--json", given=b"2\n3\n")
    assert [json.loads(line)["duplicate"] for line in result.out.splitlines()] == [True, True]
    payloads = [(await client.hear())["message"]["payload"] for _ in range(3)]
    assert payloads == [1, 2, 3]
    client.close()


async def test_a_topic_that_does_not_exist_is_refused(server: Running, ask: Ask) -> None:
    result = await ask("publish", "nosuch", "1", "--url", server.url)
    assert result == Result(1, "", "Topic 'nosuch' does not exist\n")


async def test_a_limit_of_the_rate_is_waited_for(ask: Ask) -> None:
    async with running(Settings(request_rate=1)) as server:
        server.hub.create("news", lambda _: None)
        publish = ("publish", "news", "--url", server.url)
        busy = [await ask(*publish, "1") for _ in range(10)][-1]
        assert (busy.code, busy.out) == (3, "")
        assert busy.err.endswith("(try again in 1 s)\n")
        result = await ask(*publish, "-", given=b"1\n2\n")
    assert result == Result(0, "published 2 messages to news\n", "")


async def test_a_server_that_cannot_answer_now_is_not_waited_for(ask: Ask) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\n")
        writer.write(b'Content-Length: 16\r\n\r\n{"error":"full"}')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        publish = ("publish", "news", "-", "--url", f"127.0.0.1:{port}")
        async with asyncio.timeout(PATIENCE):
            result = await ask(*publish, given=b"1\n")
    assert result == Result(3, "", "line 1: full (try again in 0 s)\n")


# --- disconnect -----------------------------------------------------------------------------------


async def test_clients_are_disconnected_and_subjects_banned(server: Running, ask: Ask) -> None:
    client = await RawClient.connect(server.port)
    await client.say({"type": "subscribe", "topic": "news", "client_id": "ann"})
    await client.hear()
    disconnect = ("disconnect", "--url", server.url)
    result = await ask(*disconnect, "--client-id", "ann")
    assert result == Result(0, "disconnected ann: 1 connection\n", "")
    assert await client.hear() == ("close", 3000, "disconnected")
    result = await ask(*disconnect, "--sub", "bob", "--for", "10m")
    first, second = result.out.splitlines()
    assert first == "disconnected bob: 0 connections"
    assert second.startswith("banned until 2")
    result = await ask(*disconnect, "--sub", "bob", "--json")
    assert json.loads(result.out)["status"] == "disconnected"
    client.close()


# --- Callers --------------------------------------------------------------------------------------


async def test_a_caller_without_a_right_is_not_allowed(guarded: Running, ask: Ask) -> None:
    url = ("--url", guarded.url)
    nobody = await ask("topics", "create", "news", *url)
    assert nobody == Result(4, "", "news: A token is needed for manage\n")
    token = tokens.sign(publish=["#"])
    ann = await ask("topics", "create", "news", "--token", token, *url)
    assert ann == Result(4, "", "news: The token does not allow manage\n")
    wrong = await ask("stats", "--token", tokens.FOREIGN, *url)
    assert (wrong.code, wrong.out) == (4, "")
    assert tokens.FOREIGN not in wrong.err


@pytest.mark.parametrize(
    "content", [tokens.KEY, f"app:{tokens.KEY}\n", f"app:{tokens.KEY},b:{tokens.KEY[::-1]}"]
)
async def test_a_key_may_be_in_a_file(
    guarded: Running, ask: Ask, content: str, tmp_path: Path
) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    create = ("topics", "create", "news", "--url", guarded.url)
    assert (await ask(*create, "--api-key-file", str(file))).code == 0


async def test_a_token_may_be_in_a_file_or_a_variable(
    guarded: Running, ask: Ask, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(tokens.sign(manage=["a"]) + "\n")
    create = ("topics", "create", "--url", guarded.url)
    assert (await ask(*create, "a", "--token-file", str(file))).code == 0
    token = tokens.sign(manage=["b"])
    assert (await ask(*create, "b", BROADCAST_TOKEN=token)).code == 0
    assert (await ask(*create, "b", "--token-file", str(file), BROADCAST_TOKEN=token)).code == 4


async def test_the_address_may_be_in_the_environment(server: Running, ask: Ask) -> None:
    assert (await ask("stats", BROADCAST_URL=server.url)).code == 0
    assert (await ask("stats", BROADCAST_URL=f"ws://127.0.0.1:{server.port}/ws")).code == 0
    assert (await ask("stats", PORT=str(server.port))).code == 0
    assert (await ask("stats", "--url", f"localhost:{server.port}", PORT="1")).code == 0


# --- Mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url", "ftp://host"], "--url 'ftp://host' is not valid: http://HOST:PORT or"),
        (["--url", "http://user:secret@host"], "--url 'host' is not valid"),
        (["--url", "http://host?token=secret"], "--url 'http://host' is not valid"),
        (["--url", "http://host:x"], "--url 'http://host:x' is not valid"),
        (["--url", "http://[::1"], "--url 'http://[::1' is not valid"),
        (["--url", "http://h/\u00fc"], "--url "),
        (["--url", "http://local host"], "--url 'http://local host' is not valid"),
        (["--url", "http://a..b"], "--url 'http://a..b' is not valid"),
        (["--url", f"http://{'a' * 64}"], "--url "),
        (["--url", ""], "--url '' is not valid"),
        (["--token", "two secret"], "--token is not valid: printable ASCII"),
        (["--token", ""], "--token is not valid: printable ASCII"),
        (["--token-file", "/no/secret"], "--token-file cannot be read: No such file"),
        (["--token-file", "a\0b"], "--token-file cannot be read: it is not a path"),
        (["--api-key-file", "/dev/null"], "--api-key-file: the file is empty or too large"),
        (["--api-key-file", "/dev/zero"], "--api-key-file: the file is empty or too large"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert carry_out(["stats", *arguments], {}) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(says)
    assert captured.err.count("\n") == 1
    assert "secret" not in captured.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["topics", "creat", "x"], "unknown action 'creat': did you mean create?"),
        (["topics", "list", "x"], "list takes no names; --prefix selects topics"),
        (["topics", "create"], "create takes the names of topics"),
        (["topics", "delete", "--prefix", "x"], "delete takes the names of topics"),
        (["disconnect"], "one of the arguments --sub --client-id is required"),
        (["disconnect", "--sub", "a", "--client-id", "b"], "not allowed with argument --sub"),
        (["disconnect", "--client-id", "b", "--for", "1h"], "--for needs --sub"),
        (["disconnect", "--sub", "a", "--for", "5"], "a number with s, m, h or d"),
        (["publish", "news"], "the following arguments are required: PAYLOAD"),
        (["publish", "\udcff", "1"], "it is not UTF-8"),
        (["stats", "--token", "a", "--token-file", "b"], "not allowed with argument --token"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        carry_out(arguments, {})
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (2, "")
    assert says in captured.err
    assert captured.err.count("\n") == 1


async def test_no_server_is_one_line(ask: Ask) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for arguments in (["stats"], ["publish", "news", "1"]):
        result = await ask(*arguments, "--url", url)
        assert result == Result(3, "", f"cannot reach {url}: Connection refused\n")
    named = await ask("stats", "--url", "http://nosuch.invalid")
    assert named.code == 3
    assert named.err.startswith("cannot reach http://nosuch.invalid: ")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\n<html>",
            "it is not a server of this",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "it is not a server of this kind (HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
            "it is not a server of this kind (HTTP",
        ),
        (
            b"HTTP/1.1 301 Moved\r\nLocation: https://there/\x1b[31m\r\nContent-Length: 0\r\n\r\n",
            "it redirects to https://there/\\x1b[31m, which is not followed\n",
        ),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "it is not a server of this kind (HTTP 304)"),
        (b"SSH-2.0-x\r\n", "it does not speak HTTP (BadStatusLine)"),
        (b"", "it closed the connection without an answer"),
    ],
)
async def test_another_server_is_one_line(ask: Ask, said: bytes, says: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]
        result = await ask("stats", "--url", f"127.0.0.1:{port}")
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith(f"cannot reach http://127.0.0.1:{port}: {says}")
    assert result.err.count("\n") == 1


async def test_a_server_that_goes_by_another_name_says_so(ask: Ask) -> None:
    async with running(Settings(allowed_hosts=frozenset({"example.com"}))) as server:
        result = await ask("stats", "--url", server.url)
    assert result.code == 1
    assert result.err.endswith("(--url must have one of its ALLOWED_HOSTS)\n")
