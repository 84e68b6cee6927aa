"""The load shape of connect storms, as after restarts: all users leave, and come back at once."""

import argparse

from locust import LoadTestShape, events

_AWAY = 2.0  # seconds without users at the end of a wave; Locust asks once a second


@events.init_command_line_parser.add_listener
def add_options(parser: argparse.ArgumentParser) -> None:
    text = "seconds from one storm to the next [20]"
    parser.add_argument("--wave", type=float, default=20.0, help=text)


class Storm(LoadTestShape):
    """All users connect in one second, and leave together two seconds before the next wave."""

    use_common_options = True  # --users and --run-time

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be, and how many of them may come in a second."""
        options = self.runner.environment.parsed_options
        passed = self.get_run_time()
        if options.run_time and passed >= options.run_time:
            return None
        here = passed % options.wave < options.wave - _AWAY
        return options.num_users if here else 0, options.num_users
