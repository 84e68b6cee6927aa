"""The JavaScript client in npm projects: bundled for a browser, and in Node with ws."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.settings import Settings
from tests.support.backstage import Backstage
from tests.support.browser import CHROMIUM, PATIENCE, chromium
from tests.support.markdown import blocks
from tests.support.npm import NPM, OLDEST, needs_npm, node
from tests.support.process import ROOT
from tests.support.server import Running, running

pytestmark = needs_npm


@pytest.fixture
def here() -> Iterator[Running]:
    with Backstage() as backstage:
        yield backstage.enter(running(Settings()))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("bundler", ["esbuild", "vite", "webpack"])
def test_a_bundle_works_in_a_browser(here: Running, tmp_path: Path, bundler: str) -> None:
    bundle = tmp_path / f"{bundler}.js"
    built = node(NPM, "build.js", bundler, str(bundle))
    assert (built.stdout, built.stderr, built.returncode) == ("", "", 0)
    assert [made.name for made in tmp_path.iterdir()] == [bundle.name]
    with chromium() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
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
        payload, without = page.evaluate(script, here.ws)
    assert payload == "bundled"
    assert without.startswith("pass the address of the server, such as ws://host:8080/ws")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a directory with the client and the packages."""
    shutil.copy(ROOT / "clients/js/client.js", tmp_path)
    shutil.copy(NPM / "package.json", tmp_path)
    (tmp_path / "node_modules").symlink_to(NPM / "node_modules")
    return tmp_path


def test_the_node_example_of_the_readme_prints_the_shown_output(
    here: Running, project: Path
) -> None:
    (block,) = (
        block
        for block in blocks((ROOT / "clients/README.md").read_text())
        if 'import WebSocket from "ws";' in block.lines
    )
    script = "\n".join(block.lines).replace("localhost:8080", f"127.0.0.1:{here.port}")
    (project / "example.js").write_text(script)
    ran = node(project, "example.js")
    assert (ran.stdout, ran.stderr, ran.returncode) == ("event hello\n", "", 0)


def test_without_a_websocket_the_error_names_what_is_missing(project: Path) -> None:
    (project / "without.js").write_text(
        'import { connect } from "./client.js";\n'
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
        import { connect } from "./client.js";
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


@pytest.mark.parametrize("source", ["the package ws", "Node itself"])
def test_in_node_a_refused_token_is_replaced_and_nothing_prints_it(
    project: Path, source: str
) -> None:
    (project / "token.js").write_text(
        """
        import Package, { WebSocketServer } from "ws";
        import { connect } from "./client.js";
        import { once } from "node:events";
        import { inspect } from "node:util";

        const WebSocket = process.argv[2] === "the package ws" ? Package : undefined;
        const lines = [];
        console.warn = (line) => lines.push(line);
        const server = new WebSocketServer({ port: 0, host: "127.0.0.1" });  // it answers "bearer"
        await once(server, "listening");
        let count = 0;
        const token = async () => `secret.${(count += 1)}`;
        const url = `ws://127.0.0.1:${server.address().port}/ws`;
        const client = connect(url, { WebSocket, token });
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
        """
    )
    ran = node(project, "--experimental-websocket", "--no-warnings", "token.js", source)
    assert ran.stderr.split() == ["bearer,secret.1", "bearer,secret.2", "auth,secret.3"]
    assert (ran.stdout, ran.returncode) == ("false\n1 false\n", 0)


def test_the_readme_names_the_oldest_node() -> None:
    found = re.search(r"Node (\d+)\.(\d+)", (ROOT / "clients/README.md").read_text())
    assert found is not None
    assert (int(found[1]), int(found[2])) == OLDEST
