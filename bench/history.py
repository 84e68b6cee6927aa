"""Measures the cost of history: the server with and without it, and the cost of a recovery.

    .venv/bin/python bench/history.py

Fan-out is measured as in `make bench`, in rounds, A B A B. A recovery is a subscribe on an open
connection, its ack, and 100 events of the topic's history. Its cost is the server's processor time,
and is printed beside that of 100 live events to one of 1,000 subscribers.
"""

import argparse
import json
import socket
import statistics
import time
from dataclasses import replace
from typing import Any

import report
from measure import measure_all
from run import prepare, titles
from scenarios import SCENARIOS
from servers import SERVER_CORE, ours, running

ROUNDS = 5
RECOVERIES = 2_000  # in a round
EVENTS = 100  # in a recovery
PAYLOAD = "x" * 128  # as in fan-out
SIZE = "300"  # events in a topic's history
SECONDS = 3.0  # of a measurement of fan-out
FANOUT = ("fanout", "fanout-16", "topics-20", "echo")


def processor_time(pid: int) -> float:
    """Return the processor time of a process in seconds, by its clock_getcpuclockid(3)."""
    return time.clock_gettime((~pid << 3) | 2)


class Connection:
    """A WebSocket client on a plain socket, which sends short texts and counts long ones."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.sendall(
            b"GET /ws?client_id=bench HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            self._data += self._socket.recv(65_536)
        self._data = self._data.partition(b"\r\n\r\n")[2]

    def say(self, **message: Any) -> None:
        text = json.dumps(message).encode()
        size = len(text)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        # Masking with a key of zeros does not change the text.
        self._socket.sendall(b"\x81" + length + bytes(4) + text)

    def hear(self) -> bytes:
        """Return the next message; all messages here are shorter than 64 KB."""
        while True:
            if len(self._data) > 4:
                size, start = self._data[1], 2
                if size == 126:
                    size, start = int.from_bytes(self._data[2:4], "big"), 4
                if len(self._data) >= start + size:
                    message = self._data[start : start + size]
                    self._data = self._data[start + size :]
                    return message
            self._data += self._socket.recv(1 << 20)


def recovery_price() -> float:
    """Return the server's processor time for one recovery of EVENTS events, in µs."""
    server = ours()
    server = replace(server, environ={**server.environ, "HISTORY_SIZE": SIZE})
    with running(server, SERVER_CORE) as (port, pid):
        holder, client = Connection(port), Connection(port)
        holder.say(type="subscribe", topic="t")
        ack = json.loads(holder.hear())
        for _ in range(EVENTS):
            client.say(type="publish", topic="t", payload=PAYLOAD)
            client.hear()
        position = {"epoch": ack["epoch"], "offset": 0}
        for turn in range(2):  # the first one warms up
            before = processor_time(pid)
            for _ in range(RECOVERIES if turn else RECOVERIES // 10):
                client.say(type="subscribe", topic="t", recover=position)
                heard = [client.hear() for _ in range(EVENTS + 1)]
                client.say(type="unsubscribe", topic="t")
                client.hear()
            spent = processor_time(pid) - before
        last = json.loads(heard[-1])
        assert last["offset"] == EVENTS, last
        return spent / RECOVERIES * 1e6


def main() -> None:
    prepare()
    plain = ours(title="without a history")
    server = replace(plain, name="history", title=f"HISTORY_SIZE={SIZE}")
    server = replace(server, environ={**server.environ, "HISTORY_SIZE": SIZE})
    scenarios = [
        replace(
            it,
            rounds=ROUNDS,
            arguments=f"{it.arguments} --seconds {SECONDS} --warm-up {min(0.5, SECONDS)}",
        )
        for it in SCENARIOS
        if it.key in FANOUT
    ]
    rows = measure_all([plain, server], scenarios)
    result = {"rows": rows, "titles": titles([plain, server])}
    print(report.table(result, scenarios))
    live = [EVENTS * it for it in report.values(result, FANOUT[0], "history", "server_us")]
    prices = [recovery_price() for _ in range(ROUNDS)]
    print(f"recovery of {EVENTS} events: {report.ranged(prices)} µs CPU")
    print(f"sending them live to one of 1,000: {report.ranged(live)} µs CPU")
    print(f"ratio of the medians: {statistics.median(prices) / statistics.median(live):.2f}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--recoveries", type=int, default=RECOVERIES, help="of a round")
    arguments.add_argument("--seconds", type=float, default=SECONDS, help="of a measurement")
    asked = arguments.parse_args()
    ROUNDS, RECOVERIES, SECONDS = asked.rounds, asked.recoveries, asked.seconds
    main()
