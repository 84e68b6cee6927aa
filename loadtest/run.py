"""Runs the load test for `make loadtest`, with a server of its own or another one.

The exit code is 0 if the run has passed, 1 if it has failed, and another one if it could not run.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
REPORTS: Final = ROOT / "loadtest/reports"
START_WITHIN: Final = 20.0  # seconds for a server to listen
STOP_WITHIN: Final = 60.0  # seconds for a server to stop; more than SHUTDOWN_TIMEOUT


def main() -> int:
    """Run Locust, and return the exit code."""
    options, others = read_options()
    options.report.parent.mkdir(exist_ok=True)
    if options.url:
        return locust(options, others, options.url)
    with server(options.report.with_suffix(".log")) as url:
        return locust(options, others, url)


def read_options() -> tuple[argparse.Namespace, list[str]]:
    """Return the options of this script, and those for Locust."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other options are Locust's (docs/load-testing.md).",
        allow_abbrev=False,
    )
    parser.add_argument("--url", help="of the server to test; without it, one is started here")
    parser.add_argument("--minutes", type=float, default=1.0, help="duration of the run [1]")
    parser.add_argument("--users", type=int, default=500, help="number of clients [500]")
    parser.add_argument(
        "--storm", action="store_true", help="connect all users at once, again and again"
    )
    name = time.strftime("%Y-%m-%dT%H-%M-%S.html")
    parser.add_argument(
        "--report",
        type=Path,
        default=REPORTS / name,
        help="file, beside which the log of the server is kept [loadtest/reports/TIME.html]",
    )
    return parser.parse_known_args()


def locust(options: argparse.Namespace, others: Sequence[str], url: str) -> int:
    """Run Locust without its page, and return its exit code."""
    files = ["loadtest/locustfile.py", *(["loadtest/storm.py"] if options.storm else [])]
    command = [
        *(sys.executable, "-m", "locust", "--headless", "--only-summary"),
        *("--locustfile", ",".join(files)),
        *("--host", url),
        *("--users", str(options.users)),
        *("--spawn-rate", str(max(1, options.users / 10))),
        *("--run-time", f"{round(options.minutes * 60)}s"),
        *("--html", str(options.report)),
        *others,
    ]
    process = subprocess.Popen(command, cwd=ROOT)
    while process.poll() is None:
        try:
            process.wait()
        except KeyboardInterrupt:
            pass  # Locust has got it, too: it ends the run and writes the report
    print(f"report: {options.report}")
    return process.returncode


@contextmanager
def server(log: Path) -> Iterator[str]:
    """Run a server with the settings of the environment, on a free port, and yield its URL."""
    known = {"HOST": "127.0.0.1", "PORT": "0", "LOG_FORMAT": "text", "LOG_LEVEL": "info"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "server.py"],
            cwd=ROOT,
            env={**os.environ, **known},
            stderr=file,
            start_new_session=True,  # Ctrl-C ends the run first
        )
    try:
        yield wait_for_url(process, log)
    finally:
        process.terminate()
        process.wait(STOP_WITHIN)


def wait_for_url(process: "subprocess.Popen[bytes]", log: Path) -> str:
    """Return the URL in the log of a server; end this process if there is none."""
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on.*(http://127\.0\.0\.1:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    sys.exit(f"loadtest: the server does not listen:\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
