"""What the options of commands and scripts have in common; without torch."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from swipe_core.errors import ConfigError


def typed(command: str) -> list[str]:
    """Return the words that start a command as this program was started."""
    program = Path(sys.argv[0])
    if program.name == f"{command}.py":
        return ["python", sys.argv[0]]
    if program.parts[-2:] == ("swipe_core", "__main__.py"):
        return ["python", "-m", "swipe_core", command]
    return ["swipe", command]


def text_parser(summary: str, epilog: str = "", prog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser whose epilog keeps its lines."""
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog, description=summary, epilog=epilog, formatter_class=layout)


def split_overrides(words: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the fields that a command line replaces, ``--section.field value``, and the other words.

    Raises `ConfigError` when a field has no value.
    """
    pairs, rest, left = list[tuple[str, str]](), list[str](), list(words)
    while left:
        word = left.pop(0)
        name, joined, value = word.partition("=")
        if not name.startswith("--") or "." not in name:
            rest.append(word)
        elif not joined and (not left or left[0].startswith("--")):
            raise ConfigError(f"{name} needs a value.")
        else:
            pairs.append((name.removeprefix("--"), value if joined else left.pop(0)))
    return pairs, rest


def parse_with_fields(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Return the options, with the fields of a configuration that are replaced as ``overrides``."""
    # They are taken out first: argparse would take the value of an option it does not know for an argument.
    try:
        overrides, rest = split_overrides(words)
    except ConfigError as error:
        parser.error(str(error).rstrip("."))
    options, unknown = parser.parse_known_args(rest)
    if unknown:
        parser.error(f"unknown argument {unknown[0]!r}; configuration fields look like --training.steps 2000")
    options.overrides = overrides
    return options


def add_device(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--device", default="auto", metavar="D", help="auto, cpu, cuda or mps (default: auto)"
    )


def add_output(parser: argparse._ActionsContainer, metavar: str, what: str) -> None:
    parser.add_argument("--output", required=True, metavar=metavar, help=what)


def add_workers(parser: argparse._ActionsContainer, what: str) -> None:
    """Add ``--workers`` and ``--scheduler``, of which one may be given; `what` the processes share."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--workers",
        type=whole_number_above_0,
        default=1,
        metavar="N",
        help=f"processes that share {what} of this machine (default: 1)",
    )
    where.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="the Dask scheduler of a cluster, tcp://HOST:PORT, whose workers have this program and see the "
        "same files; use it in a trusted network only",
    )


def whole_number_above_0(text: str) -> int:
    """Return a number; argparse shows what it raises."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


class PrintAndExit(argparse.Action):
    """An option like ``--help``: it prints what ``text`` returns, before anything else is looked at."""

    def __init__(self, option_strings: list[str], dest: str, text: Callable[[], str], help: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(self.text())
        parser.exit()
