"""The load test, for Locust: its users, and what is done before and after a run.

`make loadtest` runs it; docs/load-testing.md says what its figures mean.
"""

import argparse
import os
import sys
from typing import Any, Final
from urllib.parse import quote

import gevent
import orjson
from locust import events
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from cli.address import Address, read_address
from cli.output import CommandError
from cli.remote import RefusedError, Remote
from loadtest import generator, options, verdict
from loadtest.users import Backend, Client, Plan, Publisher, StreamReader, Subscriber

SHARES = {
    Subscriber: "subscribers",
    StreamReader: "streams",
    Publisher: "publishers",
    Backend: "rest_users",
}


_CONFLICT: Final = 409  # the topic exists

events.init_command_line_parser.add_listener(options.add_options)


@events.init.add_listener
def prepare(environment: Environment, **_: object) -> None:
    """Read the options, watch the generator, and make the topics; say in one line what is wrong."""
    chosen = environment.parsed_options
    try:
        plan = read_plan(chosen)
    except CommandError as error:
        sys.exit(f"loadtest: {error}")
    Client.plan = Backend.plan = plan
    for user, share in SHARES.items():
        user.weight = getattr(chosen, share)
    if not any(user.weight for user in SHARES):
        sys.exit("loadtest: every share of the users is 0: one must be more")
    watched = watch_generator(environment, chosen)
    if isinstance(environment.runner, WorkerRunner):
        return
    try:
        made = make_topics(plan)
    except CommandError as error:
        sys.exit(f"loadtest: the topics cannot be made: {error}")
    conclude(environment, plan, made, watched)


def read_plan(chosen: argparse.Namespace) -> Plan:
    """Return what the options say.

    Raises:
        CommandError: the URL or a credential cannot be used.
    """

    def address(token_file: str | None, api_key_file: str | None) -> Address:
        caller = argparse.Namespace(
            url=chosen.host, token=None, token_file=token_file, api_key_file=api_key_file
        )
        return read_address(caller, os.environ)

    client = address(chosen.token_file, None)
    backend = address(None, chosen.api_key_file) if chosen.api_key_file else client
    topics = [f"{chosen.prefix}{number}" for number in range(chosen.topics)]
    return Plan(client, backend, topics, chosen.size, chosen.rate, chosen.silence)


def watch_generator(environment: Environment, chosen: argparse.Namespace) -> generator.Generator:
    """Watch this process, and return what collects the windows of all processes."""
    watched = generator.Generator(chosen.max_cpu, chosen.max_lag)
    if isinstance(environment.runner, MasterRunner):

        def unpack(client_id: str, data: dict[str, Any]) -> None:
            for window in data["windows"]:
                watched.take(generator.Window(*window))

        environment.events.worker_report.add_listener(unpack)
    elif isinstance(environment.runner, WorkerRunner):
        mailbox = generator.Mailbox()
        environment.events.report_to_master.add_listener(lambda client_id, data: mailbox.pack(data))
        gevent.spawn(generator.watch, mailbox.take)
    else:
        gevent.spawn(generator.watch, watched.take)
    return watched


def make_topics(plan: Plan) -> list[str]:
    """Make the topics, and return those that did not exist.

    Raises:
        CommandError: the server cannot be reached, or refuses.
    """
    made = []
    with Remote(plan.backend) as remote:
        for topic in plan.topics:
            try:
                remote.post("/topics", orjson.dumps({"name": topic}))
            except RefusedError as error:
                if error.status != _CONFLICT:
                    raise
            else:
                made.append(topic)
    return made


def delete_topics(plan: Plan, topics: list[str]) -> None:
    """Delete topics; a server that is gone has none."""
    with Remote(plan.backend) as remote:
        for topic in topics:
            try:
                remote.delete(f"/topics/{quote(topic, safe='')}")
            except CommandError as error:
                print(f"loadtest: topic {topic} cannot be deleted: {error}", file=sys.stderr)


def conclude(
    environment: Environment, plan: Plan, made: list[str], watched: generator.Generator
) -> None:
    """At the end of the run, delete its topics, judge it, and print the verdict last."""
    faults: list[str] = []

    @environment.events.quitting.add_listener
    def judge(**_: object) -> None:
        delete_topics(plan, made)
        faults.extend(verdict.faults(environment, environment.parsed_options))
        environment.process_exit_code = 1 if faults else 0

    @environment.events.quit.add_listener
    def tell(**_: object) -> None:
        print(watched.summary())
        for fault in faults:
            print(f"FAILED: {fault}")
        if not faults:
            print(f"PASSED: {verdict.passed(environment)}")
