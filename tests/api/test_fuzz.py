"""schemathesis sends generated requests to a real server, and compares its answers with OpenAPI.

`make fuzz-api` sends more requests, and others each time.
"""

import asyncio
import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.support.description import OPENAPI
from tests.support.process import ROOT, server_process
from tests.support.tokens import KEY
from tests.test_gate import NEED_ALL, NEED_RIGHTS

# Requests for each operation and phase; without it, few, and always the same ones.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES")
AMOUNT = ["--max-examples", EXAMPLES or "15"] + ([] if EXAMPLES else ["--generation-deterministic"])
WITH_KEY = ["--header", f"X-API-Key: {KEY}"]
# A caller without credentials is refused everywhere, which schemathesis warns of.
WITHOUT = ["--warnings", "off"]


def with_access(document: dict[str, Any]) -> dict[str, Any]:
    """Return a description of a server with access on, where credentials are not optional."""
    document = deepcopy(document)
    for method, path in (*NEED_RIGHTS, *NEED_ALL):
        item = document["paths"][path.replace(r"{name:[\s\S]+}", "{name}")]
        item[method.lower()]["security"].remove({})
    return document


async def fuzz(
    directory: Path, document: dict[str, Any], arguments: list[str], **settings: str
) -> tuple[int, str]:
    """Test a server process by a description; return the exit code and the report."""
    described = directory / "openapi.json"
    described.write_text(json.dumps(document))
    async with server_process(HISTORY_SIZE="10", **settings) as server:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "schemathesis.cli", "--config-file", "tests/api/schemathesis.toml"),
            *("run", str(described), "--url", f"http://127.0.0.1:{server.port}"),
            *arguments,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        reading = asyncio.create_task(server.read_log())
        try:
            report, _ = await process.communicate()
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode is not None
    return process.returncode, report.decode()


@pytest.mark.parametrize(
    ("access", "arguments"),
    [("off", []), ("on", WITH_KEY), ("on", WITHOUT)],
    ids=["access off", "with a key", "without a key"],
)
async def test_the_server_does_what_its_description_says(
    tmp_path: Path, access: str, arguments: list[str]
) -> None:
    document, settings = OPENAPI, {}
    if access == "on":
        document, settings = with_access(OPENAPI), {"API_KEYS": f"app:{KEY}"}
    code, report = await fuzz(tmp_path, document, [*AMOUNT, *arguments], **settings)
    assert code == 0, report
    tested = sum(len(set(item) - {"parameters"}) for item in OPENAPI["paths"].values())
    assert f"Tested: {tested}" in report


async def test_a_wrong_description_is_found(tmp_path: Path) -> None:
    document = with_access(OPENAPI)
    page = document["components"]["schemas"]["TopicPage"]
    page["required"].append("pages")
    (limit,) = (
        it for it in document["paths"]["/topics"]["get"]["parameters"] if it["name"] == "limit"
    )
    limit["schema"]["maximum"] = 10
    only = ["--include-operation-id", "listTopics", "--include-operation-id", "createTopic"]
    code, report = await fuzz(tmp_path, document, [*AMOUNT, *only])
    assert code == 1, report
    found = ("Response violates schema", "Schema-violating request accepted")
    found += ("API accepts requests without authentication",)
    assert [text for text in found if text not in report] == [], report
