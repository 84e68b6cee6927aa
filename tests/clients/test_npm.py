"""The package of the JavaScript client: its files and types, in bundles, in React, and in Node."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Page, expect

from hub.settings import Settings
from hub.version import VERSION
from tests.support.backstage import Backstage
from tests.support.browser import CHROMIUM, PATIENCE, evaluate
from tests.support.certificate import make_certificate
from tests.support.markdown import blocks
from tests.support.npm import (
    MODULES,
    NAME,
    NODE,
    NODE_22,
    NPM,
    OLDEST,
    PACKAGE,
    link,
    needs_npm,
    node,
    npm,
    run,
    tsc,
)
from tests.support.process import ROOT
from tests.support.programs import skip_unless
from tests.support.server import Running, running

expect.set_options(timeout=PATIENCE)
pytestmark = needs_npm
in_browser = skip_unless(CHROMIUM, "Chromium")
README = (ROOT / "clients/README.md").read_text()
REACT = ROOT / "examples/react"


def block_with(line: str, text: str = README) -> str:
    (block,) = (block for block in blocks(text) if line in block.lines)
    return "\n".join(block.lines)


@pytest.fixture
def here() -> Iterator[Running]:
    with Backstage() as backstage:
        yield backstage.enter(running(Settings()))


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package as `npm pack` makes it."""
    directory = tmp_path_factory.mktemp("pack")
    (packed,) = json.loads(npm(PACKAGE, "pack", "--json", "--pack-destination", str(directory)))
    return directory / packed["filename"]


@pytest.fixture(scope="module")
def fresh(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project in which npm has installed the tarball."""
    project = tmp_path_factory.mktemp("fresh")
    (project / "package.json").write_text('{"private": true, "type": "module"}')
    npm(project, "install", str(tarball))
    return project


@pytest.fixture
def project(fresh: Path, tmp_path: Path) -> Path:
    """Return a copy of the project, which may also use the package ws."""
    shutil.copytree(fresh, tmp_path, dirs_exist_ok=True)
    link(tmp_path, "ws")
    return tmp_path


# --- The package ----------------------------------------------------------------------------------


def test_the_package_has_the_version_of_the_server_and_only_its_files(fresh: Path) -> None:
    installed = fresh / "node_modules" / NAME
    assert json.loads((installed / "package.json").read_text())["version"] == VERSION
    names = {path.name for path in installed.iterdir()}
    assert names == {"README.md", "client.d.ts", "client.js", "package.json"}
    assert (installed / "client.js").read_bytes() == (PACKAGE / "client.js").read_bytes()


def test_the_module_is_typed_strictly_and_its_declarations_are_those_of_the_compiler(
    tmp_path: Path,
) -> None:
    assert tsc(PACKAGE, "--project", "tsconfig.json", "--outDir", str(tmp_path)) == ""
    made = (tmp_path / "client.d.ts").read_text()
    assert made == (PACKAGE / "client.d.ts").read_text(), "make types"
    assert not re.search(r"\b_\w+", made), "internal names"


@pytest.mark.parametrize(("module", "resolution"), [("esnext", "bundler"), ("node16", "node16")])
@pytest.mark.parametrize("how", ["tarball", "path"])
def test_programs_in_strict_typescript_know_the_types(
    project: Path, module: str, resolution: str, how: str
) -> None:
    if how == "path":
        npm(project, "uninstall", NAME)
        npm(project, "install", str(PACKAGE))
        assert (project / "node_modules" / NAME).is_symlink()
    link(project, "@types/ws", "@types/node")
    shutil.copy(NPM / "types/use.ts", project)
    options = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022", "--types", "node"]
    how_found = ["--module", module, "--moduleResolution", resolution]
    assert tsc(project, *options, *how_found, "use.ts") == ""


def test_the_lock_names_no_registry() -> None:
    lock = json.loads((NPM / "package-lock.json").read_text())
    resolved = {
        it.get("resolved", "https://registry.npmjs.org/") for it in lock["packages"].values()
    }
    assert all(it.startswith("https://registry.npmjs.org/") for it in resolved)


# --- In bundles -----------------------------------------------------------------------------------


@in_browser
@pytest.mark.parametrize("bundler", ["esbuild", "rollup", "vite", "webpack"])
def test_a_bundle_works_in_a_browser(
    here: Running, page: Page, project: Path, bundler: str
) -> None:
    (project / "entry.js").write_text(
        f'import {{ connect }} from "{NAME}";\nglobalThis.connect = connect;\n'
    )
    built = node(NPM, "build.js", bundler, str(project))
    assert (built.stdout, built.stderr, built.returncode) == ("", "", 0)
    (bundle,) = (project / "dist").iterdir()
    page.goto(f"{here.url}/health")
    page.add_script_tag(path=bundle, type="module")
    page.wait_for_function("!!window.connect")
    script = """async (url) => {
        let without = null;
        try { connect(); } catch ({ message }) { without = message; }
        const client = connect(url), news = client.subscribe("news");
        await client.publish("news", "bundled");
        const { value } = await news.next();
        client.close();
        return [value.payload, without];
    }"""
    payload, without = evaluate(page, script, here.ws)
    assert payload == "bundled"
    assert without.startswith("pass the address of the server, such as ws://host:8080/ws")


def test_the_size_is_that_of_the_readme(project: Path) -> None:
    link(project, ".bin")
    ran = run(
        project,
        "sh",
        "-c",
        block_with("  npx esbuild --bundle --minify --format=esm | gzip -9 | wc -c"),
    )
    assert ran.returncode == 0, ran.stderr
    shown = re.search(r"minified and gzipped \| ([\d.]+) KB", README)
    assert shown is not None
    assert abs(int(ran.stdout) / 1000 - float(shown[1])) < 0.1, ran.stdout


# --- In React -------------------------------------------------------------------------------------


@pytest.fixture
def app(project: Path) -> Path:
    """Return a copy of the React example, with the package from the tarball."""
    shutil.copytree(REACT, project, dirs_exist_ok=True)
    given = json.loads((REACT / "package.json").read_text())
    packages = given["dependencies"] | given["devDependencies"]
    assert packages.pop(NAME) == "file:../../clients/js"
    known = json.loads((NPM / "package.json").read_text())["devDependencies"]
    assert packages == {name: known[name] for name in packages}
    link(project, ".bin", *packages)
    return project


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve the files of a directory at a URL."""
    files = partial(QuietFiles, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def chat(page: Page, here: Running, url: str) -> None:
    """Use the chat at `url`, and check that the page has one connection and one subscription."""
    complaints: list[str] = []
    page.on("console", lambda it: it.type in {"error", "warning"} and complaints.append(it.text))
    page.goto(url)
    expect(page.locator("strong")).to_have_text("open")
    for words in ("hello", "again"):
        page.get_by_label("Words").fill(words)
        page.get_by_role("button", name="Say").click()
        expect(page.get_by_role("listitem").last).to_have_text(words)
    expect(page.get_by_role("listitem")).to_have_text(["hello", "again"])
    expect(page.get_by_role("status")).to_have_text("")
    assert (len(here.hub.clients), here.topics()) == (1, {"example/react": 1})
    assert complaints == []


@in_browser
def test_the_react_example_is_typed_built_and_shows_each_event_once(
    here: Running, page: Page, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITE_SERVER", here.ws)
    npm(app, "run", "build")
    with served(app / "dist") as url:
        chat(page, here, url)


@in_browser
def test_the_react_example_mounts_twice_in_development_with_one_connection(
    here: Running, page: Page, app: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITE_SERVER", here.ws)
    monkeypatch.setenv("NO_COLOR", "1")  # in CI, Vite colours the address that it prints
    # Not through npm: its end would leave Vite running.
    command = [app / "node_modules/.bin/vite", "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, cwd=app, stdout=subprocess.PIPE, text=True) as vite:
        assert vite.stdout is not None
        try:
            (url,) = next(filter(None, (re.findall(r"http://[\d.:]+/", it) for it in vite.stdout)))
            chat(page, here, url)
        finally:
            vite.terminate()


RENDER = """
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { useConnection, useTopic } from "./src/broadcast.ts";
const Page = () => createElement("p", null, useConnection(), useTopic("news").length);
console.log(renderToString(createElement(Page)));
"""


def test_the_react_example_is_rendered_on_a_server_without_a_connection(app: Path) -> None:
    (app / "render.js").write_text(RENDER)
    link(app, "esbuild")
    options = ["--bundle", "--platform=node", "--format=cjs", "--outfile=render.cjs"]
    built = run(app, MODULES / ".bin/esbuild", "render.js", "--define:import.meta={}", *options)
    assert built.returncode == 0, built.stderr
    rendered = node(app, "render.cjs")
    assert rendered.stdout == "<p>connecting<!-- -->0</p>\n", rendered.stderr


# --- In Node --------------------------------------------------------------------------------------

NODES = {"20 and ws": NODE, "22": str(NODE_22)}
OWN = skip_unless(NODE_22.exists(), "the package of Node 22")
in_nodes = pytest.mark.parametrize("which", ["20 and ws", pytest.param("22", marks=OWN)])


def script(directory: Path, which: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run a program that connects with `OPTIONS`, which has a WebSocket where Node has none."""
    program = text if which == "22" else f'import WebSocket from "ws";\n{text}'
    options = "{}" if which == "22" else "{ WebSocket }"
    (directory / "program.js").write_text(program.replace("OPTIONS", options))
    command = NODES[which]
    assert command is not None
    return run(directory, command, "program.js")


def test_the_node_example_of_the_readme_prints_the_shown_output(
    here: Running, project: Path
) -> None:
    text = block_with('import WebSocket from "ws";').replace("localhost:8080", here.ws[5:-3])
    (project / "example.js").write_text(text)
    ran = node(project, "example.js")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("event hello\n", "", 0)


@OWN
def test_the_example_of_the_packages_readme_works(here: Running, project: Path) -> None:
    readme = (PACKAGE / "README.md").read_text()
    text = block_with(f'import {{ connect }} from "{NAME}";', readme)
    text = text.replace("localhost:8080", here.ws[5:-3])
    (project / "example.js").write_text(text)
    command = [NODE_22, "example.js"]
    with subprocess.Popen(command, cwd=project, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "{ hello: 'world' }\n"
        process.terminate()


@in_nodes
def test_the_client_runs_in_node(here: Running, project: Path, which: str) -> None:
    ran = script(
        project,
        which,
        f"""
        import {{ connect }} from "{NAME}";

        const client = connect("{here.ws}", OPTIONS);
        await client.ready();
        const news = client.subscribe("news");
        const ack = await client.publish("news", "hello", {{ timeout: 10_000 }});
        const {{ value }} = await news.next();
        console.log(client.transport, ack.status, value.payload);
        client.close();
        await client.ended();
        """,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("websocket ok hello\n", "", 0)


@in_nodes
def test_a_dead_port_is_an_error_that_says_why(project: Path, which: str) -> None:
    ran = script(
        project,
        which,
        f"""
        import {{ createServer }} from "node:net";
        import {{ connect }} from "{NAME}";

        const server = createServer().listen(0, "127.0.0.1", () => {{
            const {{ port }} = server.address();
            server.close(async () => {{
                const client = connect(`ws://127.0.0.1:${{port}}/ws?secret=1`, OPTIONS);
                console.log((await client.ready({{ timeout: 1_500 }}).catch((it) => it)).message);
                client.close();
            }});
        }});
        """,
    )
    found = re.fullmatch(
        r"TIMEOUT: no connection to ws://127.0.0.1:\d+/ws within 1.5 s: (.*)\n", ran.stdout
    )
    assert found is not None, ran.stdout
    assert "ECONNREFUSED" in found[1]
    assert "secret" not in ran.stdout + ran.stderr
    assert "connecting again in" in ran.stderr


@in_nodes
def test_headers_are_sent_with_handshakes_and_http_calls(project: Path, which: str) -> None:
    ran = script(
        project,
        which,
        f"""
        import {{ createServer }} from "node:http";
        import {{ connect }} from "{NAME}";

        const server = createServer((request, response) => {{
            console.log(request.url, request.headers["x-tenant"], request.headers.authorization);
            response.end("{{}}");
        }}).listen(0, "127.0.0.1", async () => {{
            const url = `ws://127.0.0.1:${{server.address().port}}/deep/ws`;
            const headers = {{ "X-Tenant": "blue" }};
            const client = connect(url, {{ ...OPTIONS, headers, token: () => "t" }});
            await client.topics({{ limit: 3 }});
            client.close();
            server.close();
        }});
        server.on("upgrade", (request, socket) => {{
            const {{ "x-tenant": tenant, "sec-websocket-protocol": protocol }} = request.headers;
            console.log(tenant, protocol.replace(" ", ""));
            socket.destroy();
        }});
        """,
    )
    assert sorted(ran.stdout.splitlines()) == sorted(
        ["/deep/topics?limit=3 blue Bearer t", "blue bearer,t"]
    ), ran.stderr


@pytest.mark.parametrize(("tls", "expected"), [("{ ca: cert }", "open"), ("{}", "self-signed")])
def test_the_package_ws_gets_the_options_of_tls(project: Path, tls: str, expected: str) -> None:
    make_certificate(project, "localhost")
    (project / "tls.js").write_text(
        """
        import { readFileSync } from "node:fs";
        import { createServer } from "node:https";
        import WebSocket, { WebSocketServer } from "ws";
        import { connect } from "websocket-broadcast-client";

        const cert = readFileSync("server.crt"), key = readFileSync("server.key");
        const server = createServer({ cert, key }).listen(0, "localhost", () => {
            new WebSocketServer({ server });
            const url = `wss://localhost:${server.address().port}/ws`;
            const onState = (state, { why }) => {
                if (state !== "open" && state !== "waiting") return;
                console.log(why ?? state);
                process.exit();
            };
            connect(url, { WebSocket, tls: TLS, transports: ["websocket"], onState });
        });
        """.replace("TLS", tls)
    )
    assert expected in node(project, "tls.js").stdout


def test_without_a_websocket_the_error_names_what_is_missing(project: Path) -> None:
    (project / "without.js").write_text(
        'import { connect } from "websocket-broadcast-client";\n'
        "delete globalThis.WebSocket;\n"  # which newer versions have
        'connect("ws://127.0.0.1:1/ws");\n'
    )
    ran = node(project, "without.js")
    assert ran.returncode == 1
    assert "Error: there is no WebSocket here: pass one as the option WebSocket" in ran.stderr


def test_with_ws_the_client_reconnects_and_the_process_ends(here: Running, project: Path) -> None:
    """ws throws errors that have no listener, such as that of a refused connection."""
    (project / "refused.js").write_text(
        """
        import WebSocket from "ws";
        import { connect } from "websocket-broadcast-client";
        import { createServer } from "node:net";

        const states = [];
        const server = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1", () => {
            let waits = 0;
            const onState = (state, { why }) => {
                states.push(why ?? state);
                if (state === "waiting" && (waits += 1) === 2) {
                    server.close();
                    client.retry();
                    client.close();  // while it connects
                    console.log(states.join(", "));
                }
            };
            const url = `ws://127.0.0.1:${server.address().port}/ws`;
            const client = connect(url, { WebSocket, onState });
        });
        """
    )
    ran = node(project, "refused.js")
    why = "socket hang up"
    lines = ran.stderr.splitlines()
    assert [re.sub(r"\d+", "N", line.partition("; ")[0]) for line in lines] == [
        f"ws://N.N.N.N:N/ws: {why}"
    ] * 2
    assert ran.returncode == 0
    assert ran.stdout == f"connecting, {why}, connecting, {why}, connecting, closed\n"


@in_nodes
def test_in_node_a_refused_token_is_replaced_and_nothing_prints_it(
    project: Path, which: str
) -> None:
    ran = script(
        project,
        which,
        """
        import { WebSocketServer } from "ws";
        import { connect } from "websocket-broadcast-client";
        import { once } from "node:events";
        import { inspect } from "node:util";

        const lines = [];
        console.warn = (line) => lines.push(line);
        const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });  // it answers "bearer"
        await once(server, "listening");
        let count = 0;
        const token = async () => `secret.${(count += 1)}`;
        const url = `ws://127.0.0.1:${server.address().port}/ws`;
        const client = connect(url, { ...OPTIONS, token });
        const come = async () => {
            const [peer, request] = await once(server, "connection");
            console.error(request.headers["sec-websocket-protocol"].replace(/ /g, ""));
            return peer;
        };
        (await come()).close(3000, "unauthorized");
        const peer = await come();
        const auth = new Promise((resolve) => peer.on("message", (data) => {
            const message = JSON.parse(data);
            if (message.type === "auth") resolve(message.token);
        }));
        peer.send(JSON.stringify({ type: "info", reason: "TOKEN_EXPIRES" }));
        console.error(`auth,${await auth}`);
        console.log(inspect(client, { depth: Infinity, showHidden: true }).includes("secret"));
        console.log(lines.length, lines.join().includes("secret"));
        client.close();
        server.close();
        """,
    )
    assert ran.stderr.split() == ["bearer,secret.1", "bearer,secret.2", "auth,secret.3"]
    assert (ran.stdout, ran.returncode) == ("false\n1 false\n", 0)


def test_the_readme_names_the_oldest_node() -> None:
    found = re.search(r"Node (\d+)\.(\d+)", (ROOT / "clients/README.md").read_text())
    assert found is not None
    assert (int(found[1]), int(found[2])) == OLDEST
