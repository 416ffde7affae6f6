"""The command line: ``swipe``, and ``python -m swipe_core``."""

import sys
from collections.abc import Sequence
from importlib import import_module

import swipe_core
from swipe_core.cli.commands import COMMANDS
from swipe_core.cli.shared import FAILED, until_unread
from swipe_core.errors import nearest_name


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, such as ``predict``, with its options; returns its exit code.

    What the command needs is imported once its options are understood.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    return until_unread(lambda: _run(words))


def _run(words: list[str]) -> int:
    name = words[0] if words else "--help"
    if name in COMMANDS:
        options = COMMANDS[name].parse(words[1:])
        return int(import_module(f"swipe_core.cli.{name}").main(options))
    if name in ("--help", "-h"):
        print(_help())
        return 0
    if name == "--version":
        print(f"swipe {swipe_core.__version__}")
        return 0
    print(f"error: There is no command {name!r}.{nearest_name(name, COMMANDS)}\n\n{_help()}", file=sys.stderr)
    return FAILED


def _help() -> str:
    commands = "\n".join(f"  {name:11} {command.summary}" for name, command in COMMANDS.items())
    return f"""\
usage: swipe COMMAND ...

Segment medical and microscopy images with SwIPE: a continuous segmentation, read at any resolution.

commands:
{commands}

`swipe COMMAND --help` says what a command takes, with examples; `swipe --version` which version this is."""
