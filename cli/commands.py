"""The commands of `server.py`, and the choice of one. Without a command, it serves.

Each command has a module with a function that carries it out. It gets the arguments after the
command's name and the environment, and returns the exit code.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from typing import Final

from cli.interrupts import Interruptible
from cli.output import CommandError, Exit, discard_output, printable, say
from hub.errors import SettingError
from hub.settings import Inspection
from hub.version import VERSION

# By name, with a line for the help.
COMMANDS: Final = {
    "serve": "run the server; the default",
    "stats": "show the clients and topics of a running server",
    "topics": "list, create or delete topics",
    "publish": "publish messages to a topic",
    "subscribe": "print new events of topics",
    "tail": "print the last events of topics, then new ones",
    "disconnect": "disconnect a subject or client id, or ban a subject",
    "token": "make a token for a client",
    "check-token": "show what a token allows",
}


def run(arguments: Sequence[str], environ: Mapping[str, str]) -> Inspection | Exit:
    """Carry out a command; errors, Ctrl-C and a closed output become exit codes.

    Args:
        arguments: those of the command line, without the program.
        environ: the environment.

    Returns:
        The exit code of the process, or the settings to serve with.
    """
    _open_streams()
    try:
        with Interruptible():
            # A locale without UTF-8 cannot encode every topic. Tests replace standard output by
            # objects of other classes.
            if isinstance(sys.stdout, TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")
            try:
                return _carry_out(arguments, environ)
            finally:
                sys.stdout.flush()
    except CommandError as error:
        say(printable(str(error)))
        return error.code
    except SettingError as error:
        return refuse(error)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return Exit.CLOSED_PIPE
    except OSError as error:  # of standard output: others have become CommandErrors
        discard_output()
        say(f"cannot write the output: {error.strerror}")
        return Exit.REFUSED


def _open_streams() -> None:
    """Open the null device in place of each standard stream that is closed, as in a daemon."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "r" if name == "stdin" else "w")  # noqa: SIM115
            setattr(sys, name, stream)


def refuse(error: SettingError) -> Exit:
    """Say what is wrong with a setting, and return the exit code."""
    say(printable(str(error)))
    return Exit.USAGE


def _carry_out(arguments: Sequence[str], environ: Mapping[str, str]) -> Inspection | Exit:
    name, *rest = arguments or ["serve"]
    match name:
        case "--help" | "-h" | "help":
            print(_help())
            return Exit.OK
        case "--version":
            print(f"websocket-broadcast {VERSION}")
            return Exit.OK
        case "serve":
            from cli import serve

            return serve.read(rest, environ)
        case "stats":
            from cli import stats

            return stats.run(rest, environ)
        case "topics":
            from cli import topics

            return topics.run(rest, environ)
        case "publish":
            from cli import publish

            return publish.run(rest, environ)
        case "subscribe" | "tail":
            from cli import follow

            return follow.run(name, rest, environ)
        case "disconnect":
            from cli import disconnect

            return disconnect.run(rest, environ)
        case "token" | "check-token":
            from cli import tokens

            return tokens.run(name, rest, environ)
    if name.startswith("-"):
        from cli import serve

        return serve.read(arguments, environ)
    from cli.parsing import unknown_word

    text = f"{unknown_word('command', name, COMMANDS)} (python server.py --help)"
    raise CommandError(Exit.USAGE, text)


def _help() -> str:
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: python server.py [COMMAND] [--help] [OPTIONS]",
            "",
            "A publish/subscribe server for WebSockets, and commands for a running one.",
            "",
            "commands:",
            *(f"  {name:{width}}  {text}" for name, text in COMMANDS.items()),
            "",
            "options:",
            "  --help     show this, or the help of a command",
            "  --version  show the version",
            "",
            "Without a command, the options are those of serve, one for each setting:",
            "  python server.py --port 9000",
            "  python server.py --check",
        ]
    )
