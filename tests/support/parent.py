"""The parent in this process, with other programs in place of workers."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from handlers.sockets import listen, spread
from workers.group import Group
from workers.parent import Parent

# Begins each program: `start` is what the parent says, `say` and `ready` say something to it.
_BEGIN = """
import json, os, socket, sys, time
start = json.loads(os.environ["BROADCAST_WORKER"])
channel = socket.socket(fileno=start["channel"])
number = start["number"]
def say(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")
def ready():
    say(type="ready", node=f"node{number}")
"""

# A program that does what a worker does, with as many subscribers as its number.
OBEDIENT = """
STATUS = {
    "uptime": 1.0, "topics": 1, "subscribers": number, "refusal": "",
    "checks": {"shutdown": "ok", "redis": "ok", "connections": "ok"},
}
METRICS = [["broadcast_delivered", "", "counter", [["broadcast_delivered_total", {}, number]]]]
ready()
for line in channel.makefile("rb"):
    message = json.loads(line)
    if message["type"] == "ask":
        value = {"status": STATUS, "metrics": METRICS}.get(message["about"])
        say(type="answer", id=message["id"], value=value)
    elif message["type"] == "close":
        say(type="closed", clients=number)
    elif message["type"] in ("leave", "dismiss"):
        say(type="final", metrics=METRICS)
        break
"""


@asynccontextmanager
async def parent_of(
    program: str, workers: int = 2, *, command: Sequence[str] = (), drain_delay: float = 0.0
) -> AsyncIterator[tuple[Parent, Group]]:
    """Make the parent of workers that run a program of Python, or a command."""
    parts = spread(listen("127.0.0.1", 0), workers)
    group = Group(workers)
    parent = Parent(
        group,
        command or [sys.executable, "-c", _BEGIN + program],
        parts,
        drain_delay=drain_delay,
        shutdown_timeout=0.5,
    )
    try:
        yield parent, group
    finally:
        parent.kill()
        for part in parts:
            for sock in part:
                sock.close()
